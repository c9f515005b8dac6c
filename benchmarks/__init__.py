"""Side-by-side runs against QEMU on the same machine in the same minutes; they print ratios.

Timings never assert anything: tests/ says what must work, these say how fast it is. ``make bench`` runs all,
``python -m benchmarks NAME …`` some; benchmarks/README.md tells how to add one.
"""

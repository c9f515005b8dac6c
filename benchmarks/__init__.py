"""Side-by-side runs against QEMU on the same machine in the same minutes; they print ratios.

Timings never assert anything: tests/ says what must work, these say how fast it is. Run one as
``python -m benchmarks.boot`` in the project's directory.
"""

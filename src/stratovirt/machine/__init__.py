"""The machine: what the guest sees put together, and how it is controlled.

Lives here: buses, interrupt wiring, the microvm board, run state, domain events and the control
interface. Imports ``accel``, ``devices``, ``boot`` and ``memory``; knows nothing of QMP, and starts no
task or thread: the nursery tree does that for it.
"""

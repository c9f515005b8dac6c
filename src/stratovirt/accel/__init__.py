"""Accelerators: how vCPUs run.

Lives here: the protocol that machine and nursery see (:mod:`stratovirt.accel.protocol`), its two
implementations ``kvm`` and ``tcg``, and the probe that chooses between them. Imports ``memory`` and
``errors`` only; neither implementation is imported before it is chosen.
"""

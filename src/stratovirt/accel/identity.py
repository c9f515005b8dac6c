"""Which CPU the guest sees: what of CPUID a restored machine must show it again.

Source: Intel SDM volume 2, CPUID leaf 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stratovirt.accel.features import EBX, ECX, EDX, FEATURES

Cpuid = Callable[[int, int], tuple[int, int, int, int]]
"""EAX, EBX, ECX and EDX of a leaf and subleaf; zeros where there is none."""


class CpuIdentity(NamedTuple):
    """A guest's CPU.

    :ivar vendor: 12 letters, ``AuthenticAMD``.
    :ivar features: what it has, by the names of ``-cpu``, sorted.
    """

    vendor: str
    features: tuple[str, ...]


def identify(cpuid: Cpuid) -> CpuIdentity:
    """What ``cpuid`` tells of the CPU."""
    words = cpuid(0, 0)
    vendor = b"".join(words[register].to_bytes(4, "little") for register in (EBX, EDX, ECX))
    present = (
        name
        for name, feature in FEATURES.items()
        if cpuid(feature.leaf, feature.subleaf)[feature.register] & feature.mask
    )
    return CpuIdentity(vendor.decode("latin-1").strip("\0"), tuple(sorted(present)))

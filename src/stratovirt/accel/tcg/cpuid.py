"""What CPUID says of the software CPU beyond the engine's own answer.

The engine's CPU model is a Haswell without what it cannot do (AVX, MONITOR, INVPCID). The changes here
add what the machine around it does: local APIC, timers, topology. Source: Intel SDM, volume 2, CPUID;
Linux, arch/x86/kernel/tsc.c and arch/x86/kernel/cpu/common.c, for what a kernel makes of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from stratovirt.accel.tcg.irqchip import LAPIC_TIMER_HZ

ALL = 0xFFFF_FFFF
ALL_SUBLEAVES = -1

MAX_LEAF = 0x16


@dataclass(frozen=True)
class Leaf:
    """Each register becomes ``(engine's value & keep) | set``; in the order EAX, EBX, ECX, EDX."""

    leaf: int
    subleaf: int = ALL_SUBLEAVES
    keep: tuple[int, int, int, int] = (ALL, ALL, ALL, ALL)
    set: tuple[int, int, int, int] = (0, 0, 0, 0)


NOTHING = (0, 0, 0, 0)

TSC_DEADLINE = 1 << 24
HYPERVISOR = 1 << 31
X2APIC = 1 << 21
APIC = 1 << 9
HTT = 1 << 28

TSC_ADJUST = 1 << 1
FAST_REP_MOVSB = 1 << 9
"""Not offered: REP costs as much per byte as a loop iteration, so C libraries shall copy by vectors."""

SPEC_CTRL = 1 << 26
ARCH_CAPABILITIES = 1 << 29
BHI_CTRL = 1 << 4
"""With these and IA32_ARCH_CAPABILITIES a kernel needs no mitigation in code: nothing is speculated here."""

INVARIANT_TSC = 1 << 8


def leaves(cpu: int, vcpus: int, tsc_hz: int) -> list[Leaf]:
    """The changes for vCPU ``cpu`` of ``vcpus``, as one package of that many cores."""
    return [
        Leaf(0x0, keep=(0, ALL, ALL, ALL), set=(MAX_LEAF, 0, 0, 0)),
        Leaf(
            0x1,
            keep=(ALL, 0xFFFF, ALL & ~X2APIC, ALL),
            set=(0, cpu << 24 | vcpus << 16, TSC_DEADLINE | HYPERVISOR, APIC | (HTT if vcpus > 1 else 0)),
        ),
        *_caches(vcpus),
        Leaf(
            0x7,
            0,
            keep=(0, ALL & ~FAST_REP_MOVSB, ALL, ALL),
            set=(2, TSC_ADJUST, 0, SPEC_CTRL | ARCH_CAPABILITIES),
        ),
        Leaf(0x7, 2, keep=NOTHING, set=(0, 0, 0, BHI_CTRL)),
        *_topology(cpu, vcpus),
        *(Leaf(leaf, keep=NOTHING) for leaf in range(0xE, 0x15)),
        *_frequencies(tsc_hz),
        Leaf(0x8000_0007, set=(0, 0, 0, INVARIANT_TSC)),
    ]


def _caches(vcpus: int) -> list[Leaf]:
    """Leaf 4: how many cores the package has room for."""
    return [
        Leaf(0x4, level, keep=(0x03FF_FFFF, ALL, ALL, ALL), set=((vcpus - 1) << 26, 0, 0, 0))
        for level in (0, 1, 2)
    ]


def _topology(cpu: int, vcpus: int) -> list[Leaf]:
    """Leaf 0xB: one thread per core, then the cores of the package."""
    return [
        Leaf(0xB, keep=(0, 0, 0xFF, 0), set=(0, 0, 0, cpu)),
        Leaf(0xB, 0, keep=NOTHING, set=(0, 1, 0x100, cpu)),
        Leaf(0xB, 1, keep=NOTHING, set=((vcpus - 1).bit_length(), vcpus, 0x201, cpu)),
    ]


@functools.cache
def tsc_ratio(tsc_hz: int) -> tuple[int, int]:
    """``(denominator, numerator)`` closest to TSC / crystal, with numerator × crystal kHz below 2³².

    Linux, native_calibrate_tsc(), multiplies the two in 32 bits.
    """

    def error(denominator: int) -> float:
        multiple = tsc_hz * denominator / LAPIC_TIMER_HZ
        return abs(multiple - round(multiple)) / denominator

    denominator = min(range(1, 2**32 * 1000 // tsc_hz), key=error)
    return denominator, round(tsc_hz * denominator / LAPIC_TIMER_HZ)


def _frequencies(tsc_hz: int) -> list[Leaf]:
    """Leaves 0x15 and 0x16: the TSC as a multiple of the crystal, which is also the APIC timer's clock."""
    denominator, numerator = tsc_ratio(tsc_hz)
    megahertz = tsc_hz // 1_000_000
    return [
        Leaf(0x15, keep=NOTHING, set=(denominator, numerator, LAPIC_TIMER_HZ, 0)),
        Leaf(0x16, keep=NOTHING, set=(megahertz, megahertz, 100, 0)),
    ]

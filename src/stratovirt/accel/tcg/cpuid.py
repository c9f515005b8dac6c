"""What CPUID says of the software CPU beyond the engine's own answer.

The engine's CPU model is a Haswell without what it cannot do (AVX, MONITOR, INVPCID). The changes here
add what the machine around it does: local APIC, timers, topology. Source: Intel SDM, volume 2, CPUID;
Linux, arch/x86/kernel/tsc.c and arch/x86/kernel/cpu/common.c, for what a kernel makes of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from stratovirt.accel.features import FEATURES
from stratovirt.accel.tcg.irqchip import LAPIC_TIMER_HZ
from stratovirt.accel.topology import Topology

ALL = 0xFFFF_FFFF
ALL_SUBLEAVES = -1
HAVE_SUBLEAVES = (0x7, 0xD)

FREQUENCIES, DIES = 0x16, 0x1F
"""The highest leaf: the second where a socket has several dies, as on processors that have them."""

SMT_LEVEL, CORE_LEVEL, DIE_LEVEL = 1, 2, 5
MAX_CACHE_CORES = 63
"""What leaf 4 has room for, in 6 bits, less one."""


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


def leaves(topology: Topology, cpu: int, tsc_hz: int) -> list[Leaf]:
    """The changes for vCPU ``cpu``."""
    apic_id, count = topology.apic_id(cpu), topology.socket_threads
    highest = DIES if topology.dies > 1 else FREQUENCIES
    return [
        Leaf(0x0, keep=(0, ALL, ALL, ALL), set=(highest, 0, 0, 0)),
        Leaf(
            0x1,
            keep=(ALL, 0xFFFF, ALL & ~X2APIC, ALL),
            set=(0, apic_id << 24 | count << 16, TSC_DEADLINE | HYPERVISOR, APIC | (HTT if count > 1 else 0)),
        ),
        *_caches(topology),
        Leaf(
            0x7,
            0,
            keep=(0, ALL & ~FAST_REP_MOVSB, ALL, ALL),
            set=(2, TSC_ADJUST, 0, SPEC_CTRL | ARCH_CAPABILITIES),
        ),
        Leaf(0x7, 2, keep=NOTHING, set=(0, 0, 0, BHI_CTRL)),
        *_topology(topology, apic_id),
        *(Leaf(leaf, keep=NOTHING) for leaf in range(0xE, 0x15)),
        *_frequencies(tsc_hz),
        Leaf(0x8000_0007, set=(0, 0, 0, INVARIANT_TSC)),
    ]


def without(name: str) -> Leaf:
    """The change that takes a feature away."""
    feature = FEATURES[name]
    eax, ebx, ecx, edx = (
        ALL & ~feature.mask if register == feature.register else ALL for register in range(4)
    )
    # Leaf 1 answers whatever the subleaf, and so do the extended ones.
    subleaf = feature.subleaf if feature.leaf in HAVE_SUBLEAVES else ALL_SUBLEAVES
    return Leaf(feature.leaf, subleaf, keep=(eax, ebx, ecx, edx))


def _caches(topology: Topology) -> list[Leaf]:
    """Leaf 4: every cache is a core's own; the APIC ids that share it, and those of the socket's cores."""
    sharing = (1 << topology.core_shift) - 1
    cores = min((1 << topology.socket_shift - topology.core_shift) - 1, MAX_CACHE_CORES)
    return [
        Leaf(0x4, cache, keep=(0x3FFF, ALL, ALL, ALL), set=(cores << 26 | sharing << 14, 0, 0, 0))
        for cache in (0, 1, 2)
    ]


def _topology(topology: Topology, apic_id: int) -> list[Leaf]:
    """Leaf 0xB: the threads of a core, then those of the socket; leaf 0x1F has the die's between them."""
    threads = (topology.core_shift, topology.threads, SMT_LEVEL)
    die = (topology.die_shift, topology.die_threads, CORE_LEVEL)
    socket = (topology.socket_shift, topology.socket_threads)
    changes = _levels(0xB, apic_id, threads, (*socket, CORE_LEVEL))
    if topology.dies > 1:
        changes += [Leaf(leaf, keep=NOTHING) for leaf in range(FREQUENCIES + 1, DIES)]
        changes += _levels(DIES, apic_id, threads, die, (*socket, DIE_LEVEL))
    return changes


def _levels(leaf: int, apic_id: int, *levels: tuple[int, int, int]) -> list[Leaf]:
    """A leaf of levels, each ``(bits of the APIC id below the next, vCPUs, type)``, and none beyond them."""
    return [
        Leaf(leaf, keep=(0, 0, 0xFF, 0), set=(0, 0, 0, apic_id)),
        *(
            Leaf(leaf, index, keep=NOTHING, set=(bits, vcpus, kind << 8 | index, apic_id))
            for index, (bits, vcpus, kind) in enumerate((*levels, (0, 0, 0)))
        ),
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

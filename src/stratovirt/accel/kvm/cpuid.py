"""What CPUID tells the guest: the host's supported leaves, with this VM's topology written in.

The law: pure. A leaf that KVM does not support is never added, except the topology leaf 0xB (and 0x1F,
where the CPU has it), which KVM leaves to us. The topology is one package of single-threaded cores;
the APIC id is the vCPU's index.

Source: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has sub-leaves

HTT = 1 << 28  # 1.EDX: more than one logical processor in the package
TSC_DEADLINE = 1 << 24  # 1.ECX; not listed as supported by kernels before 6.x, which have it all the same
HYPERVISOR = 1 << 31  # 1.ECX
CMP_LEGACY = 1 << 1  # 0x80000001.ECX: the logical processors of the package are cores
LAST_LEVEL_CACHE = 3
SMT_LEVEL, CORE_LEVEL = 1, 2  # level types of leaf 0xB
EXTENDED_TOPOLOGY = (0xB, 0x1F)
AMD_VENDORS = (0x6874_7541, 0x6F67_7948)  # 0.EBX: "Auth"enticAMD, "Hygo"nGenuine


@dataclass(frozen=True)
class CpuidEntry:
    """One sub-leaf, as KVM_SET_CPUID2 takes it."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(frozen=True)
class Topology:
    """Where one vCPU stands: core ``apic_id`` of ``count`` in one package."""

    apic_id: int
    count: int

    @property
    def core_bits(self) -> int:
        """Bits of the APIC id that number the core."""
        return (self.count - 1).bit_length()


def for_vcpu(supported: Iterable[CpuidEntry], topology: Topology) -> list[CpuidEntry]:
    """The table of one vCPU, from the host's ``supported`` leaves."""
    entries = [entry for entry in supported if entry.function not in EXTENDED_TOPOLOGY]
    identity = next(entry for entry in entries if entry.function == 0)
    adapters = _ADAPT_AMD if identity.ebx in AMD_VENDORS else _ADAPT_INTEL
    adapted = [adapters.get(entry.function, _as_it_is)(entry, topology) for entry in entries]
    for function in EXTENDED_TOPOLOGY:
        if function <= identity.eax:
            adapted += _extended_topology(function, topology)
    return adapted


def _bits(value: int, high: int, low: int, field: int) -> int:
    """``value`` with its bits ``high``–``low`` replaced by ``field``."""
    mask = (1 << high + 1) - (1 << low)
    return value & ~mask | field << low & mask


def _as_it_is(entry: CpuidEntry, _topology: Topology) -> CpuidEntry:
    return entry


def _features(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    ebx = _bits(entry.ebx, 31, 24, topology.apic_id)
    return replace(
        entry,
        ebx=_bits(ebx, 23, 16, topology.count),
        ecx=entry.ecx | TSC_DEADLINE | HYPERVISOR,
        edx=entry.edx | HTT if topology.count > 1 else entry.edx & ~HTT,
    )


def _cache(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    """Leaf 4 (Intel) and 0x8000001D (AMD) alike: bits 25–14 are the number of sharers - 1."""
    level = entry.eax >> 5 & 0x7
    return replace(
        entry, eax=_bits(entry.eax, 25, 14, topology.count - 1 if level >= LAST_LEVEL_CACHE else 0)
    )


def _intel_cache(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    if entry.eax & 0x1F == 0:  # no more caches
        return entry
    entry = _cache(entry, topology)
    return replace(entry, eax=_bits(entry.eax, 31, 26, (1 << topology.core_bits) - 1))


def _amd_features(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    return replace(entry, ecx=entry.ecx | CMP_LEGACY if topology.count > 1 else entry.ecx & ~CMP_LEGACY)


def _amd_core_count(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    ecx = _bits(entry.ecx, 7, 0, topology.count - 1)
    return replace(entry, ecx=_bits(ecx, 15, 12, topology.core_bits))


def _amd_core(entry: CpuidEntry, topology: Topology) -> CpuidEntry:
    return replace(entry, eax=topology.apic_id, ebx=topology.apic_id & 0xFF, ecx=0)


def _extended_topology(function: int, topology: Topology) -> list[CpuidEntry]:
    levels = ((0, 1, SMT_LEVEL), (topology.core_bits, topology.count, CORE_LEVEL), (0, 0, 0))
    return [
        CpuidEntry(function, index, SIGNIFICANT_INDEX, bits, processors, kind << 8 | index, topology.apic_id)
        for index, (bits, processors, kind) in enumerate(levels)
    ]


_Adapters = dict[int, Callable[[CpuidEntry, Topology], CpuidEntry]]
_ADAPT_INTEL: _Adapters = {
    0x1: _features,
    0x4: _intel_cache,
}
_ADAPT_AMD: _Adapters = {
    0x1: _features,
    0x8000_0001: _amd_features,
    0x8000_0008: _amd_core_count,
    0x8000_001D: _cache,
    0x8000_001E: _amd_core,
}

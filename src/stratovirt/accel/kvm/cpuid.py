"""What CPUID tells the guest: the host's supported leaves, with this VM's topology written in.

The law: pure. A leaf that KVM does not support is never added, except the topology leaf 0xB (and 0x1F,
where the CPU has it), which KVM leaves to us. Where that is missing, dies cannot be told.

Source: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from stratovirt.accel.features import FEATURES, Feature, Features
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorUnavailable

SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has sub-leaves

HTT = 1 << 28  # 1.EDX: more than one logical processor in the package
TSC_DEADLINE = 1 << 24  # 1.ECX; not listed as supported by kernels before 6.x, which have it all the same
HYPERVISOR = 1 << 31  # 1.ECX
CMP_LEGACY = 1 << 1  # 0x80000001.ECX: the logical processors of the package are cores
LAST_LEVEL_CACHE = 3
SMT_LEVEL, CORE_LEVEL, DIE_LEVEL = 1, 2, 5  # level types of leaves 0xB and 0x1F
EXTENDED_TOPOLOGY = (0xB, 0x1F)
REGISTERS = ("eax", "ebx", "ecx", "edx")
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


class Cpu(NamedTuple):
    """Which vCPU the table is for."""

    topology: Topology
    number: int

    @property
    def apic_id(self) -> int:
        """Its id, in which the leaves count sharers of things."""
        return self.topology.apic_id(self.number)


def for_vcpu(supported: Iterable[CpuidEntry], topology: Topology, index: int) -> list[CpuidEntry]:
    """The table of vCPU ``index``, from the host's ``supported`` leaves."""
    cpu = Cpu(topology, index)
    entries = [entry for entry in supported if entry.function not in EXTENDED_TOPOLOGY]
    identity = next(entry for entry in entries if entry.function == 0)
    adapters = _ADAPT_AMD if identity.ebx in AMD_VENDORS else _ADAPT_INTEL
    adapted = [adapters.get(entry.function, _as_it_is)(entry, cpu) for entry in entries]
    for function, levels in ((0xB, _socket_levels), (0x1F, _die_levels)):
        if function <= identity.eax:
            adapted += _extended_topology(function, cpu, levels(topology))
    return adapted


def with_features(table: list[CpuidEntry], features: Features) -> list[CpuidEntry]:
    """``table`` without the features that shall not be there.

    :raises AcceleratorUnavailable: one that is required is not there.
    """
    for name in features.required:
        wanted = FEATURES[name]
        if not any(getattr(entry, REGISTERS[wanted.register]) & wanted.mask for entry in _at(table, wanted)):
            raise AcceleratorUnavailable(f"accel kvm: this host's CPU has no {name}")
    for name in features.removed:
        unwanted = FEATURES[name]
        for entry in _at(table, unwanted):
            register = REGISTERS[unwanted.register]
            table[table.index(entry)] = replace(
                entry, **{register: getattr(entry, register) & ~unwanted.mask}
            )
    return table


def _at(table: list[CpuidEntry], feature: Feature) -> list[CpuidEntry]:
    place = (feature.leaf, feature.subleaf)
    return [entry for entry in table if (entry.function, entry.index) == place]


def _bits(value: int, high: int, low: int, field: int) -> int:
    """``value`` with its bits ``high``–``low`` replaced by ``field``."""
    mask = (1 << high + 1) - (1 << low)
    return value & ~mask | field << low & mask


def _as_it_is(entry: CpuidEntry, _cpu: Cpu) -> CpuidEntry:
    return entry


def _features(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    count = cpu.topology.socket_threads
    ebx = _bits(entry.ebx, 31, 24, cpu.apic_id)
    return replace(
        entry,
        ebx=_bits(ebx, 23, 16, count),
        ecx=entry.ecx | TSC_DEADLINE | HYPERVISOR,
        edx=entry.edx | HTT if count > 1 else entry.edx & ~HTT,
    )


def _cache(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    """Leaf 4 (Intel) and 0x8000001D (AMD) alike: bits 25–14 are the APIC ids of sharers - 1."""
    level = entry.eax >> 5 & 0x7
    shift = cpu.topology.die_shift if level >= LAST_LEVEL_CACHE else cpu.topology.core_shift
    return replace(entry, eax=_bits(entry.eax, 25, 14, (1 << shift) - 1))


def _intel_cache(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    if entry.eax & 0x1F == 0:  # no more caches
        return entry
    entry = _cache(entry, cpu)
    cores = (1 << cpu.topology.socket_shift - cpu.topology.core_shift) - 1
    return replace(entry, eax=_bits(entry.eax, 31, 26, min(cores, 63)))


def _amd_features(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    several = cpu.topology.socket_threads > 1
    return replace(entry, ecx=entry.ecx | CMP_LEGACY if several else entry.ecx & ~CMP_LEGACY)


def _amd_core_count(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    ecx = _bits(entry.ecx, 7, 0, cpu.topology.socket_threads - 1)
    return replace(entry, ecx=_bits(ecx, 15, 12, cpu.topology.socket_shift))


def _amd_core(entry: CpuidEntry, cpu: Cpu) -> CpuidEntry:
    """The core within its socket and its threads; the node, which is the die, within the machine."""
    topology = cpu.topology
    _, die, core, _ = topology.place(cpu.number)
    return replace(
        entry,
        eax=cpu.apic_id,
        ebx=topology.threads - 1 << 8 | die * topology.die_cores + core & 0xFF,
        ecx=topology.dies - 1 << 8 | cpu.apic_id >> topology.die_shift & 0xFF,
    )


_Levels = tuple[tuple[int, int, int], ...]
"""Each ``(bits of the APIC id below the next level, vCPUs of this one, type)``."""


def _socket_levels(topology: Topology) -> _Levels:
    """Leaf 0xB: a socket's threads are its cores', whatever the dies."""
    return (
        (topology.core_shift, topology.threads, SMT_LEVEL),
        (topology.socket_shift, topology.socket_threads, CORE_LEVEL),
    )


def _die_levels(topology: Topology) -> _Levels:
    """Leaf 0x1F: the same where a socket has one die."""
    if topology.dies == 1:
        return _socket_levels(topology)
    return (
        (topology.core_shift, topology.threads, SMT_LEVEL),
        (topology.die_shift, topology.die_threads, CORE_LEVEL),
        (topology.socket_shift, topology.socket_threads, DIE_LEVEL),
    )


def _extended_topology(function: int, cpu: Cpu, levels: _Levels) -> list[CpuidEntry]:
    return [
        CpuidEntry(function, index, SIGNIFICANT_INDEX, bits, vcpus, kind << 8 | index, cpu.apic_id)
        for index, (bits, vcpus, kind) in enumerate((*levels, (0, 0, 0)))
    ]


_Adapters = dict[int, Callable[[CpuidEntry, Cpu], CpuidEntry]]
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

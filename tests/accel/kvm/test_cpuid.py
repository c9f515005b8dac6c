"""The CPUID table describes one package of single-threaded cores, whatever the host looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.accel.kvm import cpuid
from stratovirt.accel.kvm.cpuid import CpuidEntry, Topology, for_vcpu
from tests.accel.guests import done
from tests.accel.kvm.conftest import Machine

INTEL, AMD = 0x756E_6547, 0x6874_7541
words = st.integers(0, (1 << 32) - 1)
topologies = st.integers(1, 254).flatmap(
    lambda count: st.builds(Topology, st.integers(0, count - 1), st.just(count))
)


def host(vendor: int, highest: int = 0x1F) -> list[CpuidEntry]:
    """A host with many threads: 16 cores of 2, two caches."""
    return [
        CpuidEntry(0, 0, 0, highest, vendor, 0, 0),
        CpuidEntry(1, 0, 0, 0x806F8, 0x0720_0800, 0, cpuid.HTT),
        CpuidEntry(4, 0, 1, 0x7C00_4121, 0x02C0_003F, 0x3F, 0),
        CpuidEntry(4, 3, 1, 0x7C07_C163, 0x0380_003F, 0x7FFF, 4),
        CpuidEntry(4, 4, 1, 0, 0, 0, 0),
        CpuidEntry(0xB, 0, 1, 1, 2, 0x100, 7),
        CpuidEntry(0xB, 1, 1, 5, 32, 0x201, 7),
        CpuidEntry(0x8000_0001, 0, 0, 0, 0, cpuid.CMP_LEGACY, 0),
        CpuidEntry(0x8000_0008, 0, 0, 0x3030, 0, 0x701F, 0),
        CpuidEntry(0x8000_001D, 3, 1, 0x7C163, 0, 0, 0),
        CpuidEntry(0x8000_001E, 0, 0, 7, 0x103, 0x101, 0),
    ]


def leaf(table: list[CpuidEntry], function: int, index: int = 0) -> CpuidEntry:
    [entry] = [entry for entry in table if (entry.function, entry.index) == (function, index)]
    return entry


@given(topology=topologies, vendor=st.sampled_from([INTEL, AMD]))
def test_apic_id_and_count_are_told_alike_in_every_leaf(topology: Topology, vendor: int) -> None:
    table = for_vcpu(host(vendor), topology)
    features = leaf(table, 1)
    assert features.ebx >> 24 == topology.apic_id
    assert features.ebx >> 16 & 0xFF == topology.count
    assert bool(features.edx & cpuid.HTT) == (topology.count > 1)
    for function in (0xB, 0x1F):
        smt, core, end = (leaf(table, function, index) for index in range(3))
        assert {smt.edx, core.edx, end.edx} == {topology.apic_id}
        assert (smt.eax, smt.ebx, smt.ecx) == (0, 1, 0x100)
        assert (core.ebx, core.ecx) == (topology.count, 0x201)
        assert 1 << core.eax >= topology.count > (1 << core.eax) // 2
        assert (end.eax, end.ebx, end.ecx) == (0, 0, 2)


@given(topologies)
def test_intel_caches_are_private_but_the_last(topology: Topology) -> None:
    table = for_vcpu(host(INTEL), topology)
    first, last = leaf(table, 4, 0), leaf(table, 4, 3)
    assert first.eax >> 14 & 0xFFF == 0
    assert last.eax >> 14 & 0xFFF == topology.count - 1
    assert (first.eax >> 26) + 1 == (last.eax >> 26) + 1 >= min(topology.count, 64)
    assert leaf(table, 4, 4) == CpuidEntry(4, 4, 1, 0, 0, 0, 0)


@given(topologies)
def test_amd_leaves_count_cores(topology: Topology) -> None:
    table = for_vcpu(host(AMD), topology)
    assert leaf(table, 0x8000_0008).ecx == (topology.count - 1) | (topology.count - 1).bit_length() << 12
    assert leaf(table, 0x8000_001E) == CpuidEntry(0x8000_001E, 0, 0, topology.apic_id, topology.apic_id, 0, 0)
    assert leaf(table, 0x8000_001D, 3).eax >> 14 & 0xFFF == topology.count - 1


@given(topologies)
def test_amd_leaves_of_an_intel_host_stay_as_they_are(topology: Topology) -> None:
    table = for_vcpu(host(INTEL), topology)
    for function in (0x8000_0001, 0x8000_0008, 0x8000_001E):
        assert leaf(table, function) == leaf(host(INTEL), function)


@given(
    st.lists(st.builds(CpuidEntry, st.integers(2, 0x40), words, words, words, words, words, words)),
    topologies,
)
def test_any_host_table_is_taken_and_registers_stay_32_bit(
    entries: list[CpuidEntry], topology: Topology
) -> None:
    for vendor in (INTEL, AMD):
        for entry in for_vcpu([CpuidEntry(0, 0, 0, 0x10, vendor, 0, 0), *entries], topology):
            assert all(0 <= word < 1 << 32 for word in vars(entry).values())


def test_topology_leaves_are_not_invented_for_an_old_cpu() -> None:
    old = [replace(entry) for entry in host(INTEL, highest=0xA) if entry.function != 0xB]
    assert not {0xB, 0x1F} & {entry.function for entry in for_vcpu(old, Topology(0, 2))}


def test_guest_is_told_of_a_hypervisor_and_the_deadline_timer() -> None:
    ecx = leaf(for_vcpu(host(INTEL), Topology(0, 1)), 1).ecx
    assert ecx & cpuid.HYPERVISOR
    assert ecx & cpuid.TSC_DEADLINE


@pytest.mark.parametrize(
    ("function", "register", "value"), [(0x4000_0000, "rbx", b"KVMK"), (0x4000_0000, "rdx", b"M\0\0\0")]
)
def test_kvm_names_itself_to_the_guest(
    new_machine: Callable[..., Machine], function: int, register: str, value: bytes
) -> None:
    machine = new_machine()
    machine.run(b"\xb8" + function.to_bytes(4, "little") + b"\x0f\xa2" + done())  # cpuid
    assert machine.vcpu.registers()[register] == int.from_bytes(value, "little")

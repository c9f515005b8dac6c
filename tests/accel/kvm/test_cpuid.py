"""The CPUID table describes the topology that -smp asks for, whatever the host looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.accel.features import Features
from stratovirt.accel.kvm import cpuid
from stratovirt.accel.kvm.cpuid import CpuidEntry, for_vcpu
from stratovirt.accel.topology import MAX_APIC_ID, Topology
from stratovirt.errors import AcceleratorUnavailable
from tests.accel.guests import done
from tests.accel.kvm.conftest import Machine

INTEL, AMD = 0x756E_6547, 0x6874_7541
words = st.integers(0, (1 << 32) - 1)
counts = st.integers(1, 5)
topologies = st.builds(Topology, counts, counts, counts, counts, counts).filter(
    lambda topology: topology.apic_id(topology.places - 1) <= MAX_APIC_ID
)


@st.composite
def vcpus(draw: st.DrawFn) -> tuple[Topology, int]:
    """A topology and one of its places."""
    topology = draw(topologies)
    return topology, draw(st.integers(0, topology.places - 1))


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


def test_a_feature_that_is_removed_is_gone_and_one_that_is_required_was_there() -> None:
    table = for_vcpu(host(INTEL), Topology(), 0)
    changed = cpuid.with_features(list(table), Features(required=("hypervisor",), removed=("hypervisor",)))
    differ = [(a.function, a.ecx ^ b.ecx) for a, b in zip(table, changed, strict=True) if a != b]
    assert differ == [(1, cpuid.HYPERVISOR)]
    with pytest.raises(AcceleratorUnavailable, match=r"^accel kvm: this host's CPU has no avx512f$"):
        cpuid.with_features(table, Features(required=("avx512f",)))


@given(vcpus(), st.sampled_from([INTEL, AMD]))
def test_a_guest_reads_its_place_from_the_extended_leaves(vcpu: tuple[Topology, int], vendor: int) -> None:
    topology, index = vcpu
    socket, die, core, thread = topology.place(index)
    table = for_vcpu(host(vendor), topology, index)
    smt, package, end = (leaf(table, 0xB, level) for level in range(3))
    apic_id = smt.edx
    assert (smt.ebx, smt.ecx, smt.eax) == (topology.threads, 0x100, (topology.threads - 1).bit_length())
    assert (package.ebx, package.ecx) == (topology.socket_threads, 0x201)
    assert (end.eax, end.ebx, end.ecx, end.edx) == (0, 0, 2, apic_id)
    assert (apic_id & (1 << smt.eax) - 1, apic_id >> package.eax) == (thread, socket)
    levels = [entry for entry in table if entry.function == 0x1F and entry.ebx]
    assert [entry.ecx >> 8 for entry in levels] == ([1, 2, 5] if topology.dies > 1 else [1, 2])
    assert levels[1].ebx == topology.socket_threads // topology.dies
    assert (apic_id & (1 << levels[1].eax) - 1) >> smt.eax == core
    assert (apic_id & (1 << levels[-1].eax) - 1) >> levels[1].eax == die


@given(vcpus(), st.sampled_from([INTEL, AMD]))
def test_the_old_leaf_tells_the_same_id_and_the_vcpus_of_the_socket(
    vcpu: tuple[Topology, int], vendor: int
) -> None:
    topology, index = vcpu
    table = for_vcpu(host(vendor), topology, index)
    features = leaf(table, 1)
    assert features.ebx >> 24 == leaf(table, 0xB).edx
    assert features.ebx >> 16 & 0xFF == topology.socket_threads
    assert bool(features.edx & cpuid.HTT) == (topology.socket_threads > 1)


@given(vcpus())
def test_intel_caches_are_a_cores_but_the_last_is_a_dies(vcpu: tuple[Topology, int]) -> None:
    topology, index = vcpu
    table = for_vcpu(host(INTEL), topology, index)
    first, last = leaf(table, 4, 0), leaf(table, 4, 3)
    assert power_of_two_above(first.eax >> 14 & 0xFFF) == power_of_two_above(topology.threads - 1)
    sharers = {
        topology.apic_id(other) // ((last.eax >> 14 & 0xFFF) + 1)
        for other in range(topology.places)
        if topology.place(other)[:2] == topology.place(index)[:2]
    }
    assert len(sharers) == 1, "the vCPUs of one die, and no others, share it"
    assert (first.eax >> 26) + 1 == (last.eax >> 26) + 1 >= min(topology.dies * topology.die_cores, 64)
    assert leaf(table, 4, 4) == CpuidEntry(4, 4, 1, 0, 0, 0, 0)


def power_of_two_above(highest: int) -> int:
    return 1 << highest.bit_length()


@given(vcpus())
def test_amd_leaves_tell_core_threads_and_node(vcpu: tuple[Topology, int]) -> None:
    topology, index = vcpu
    socket, die, core, _ = topology.place(index)
    table = for_vcpu(host(AMD), topology, index)
    count = leaf(table, 0x8000_0008).ecx
    assert count & 0xFF == topology.socket_threads - 1
    here = leaf(table, 0x8000_001E)
    assert here.eax >> (count >> 12 & 0xF) == socket
    assert (here.ebx & 0xFF, here.ebx >> 8 & 0xFF) == (die * topology.die_cores + core, topology.threads - 1)
    assert here.ecx >> 8 & 0x7 == topology.dies - 1
    assert here.ecx & 0xFF == leaf(table, 0xB).edx >> topology.die_shift
    assert (
        leaf(table, 0x8000_001D, 3).eax == leaf(for_vcpu(host(INTEL), topology, index), 4, 3).eax & 0x3FFFFFF
    )


@given(vcpus())
def test_amd_leaves_of_an_intel_host_stay_as_they_are(vcpu: tuple[Topology, int]) -> None:
    table = for_vcpu(host(INTEL), *vcpu)
    for function in (0x8000_0001, 0x8000_0008, 0x8000_001E):
        assert leaf(table, function) == leaf(host(INTEL), function)


@given(
    st.lists(st.builds(CpuidEntry, st.integers(2, 0x40), words, words, words, words, words, words)),
    vcpus(),
)
def test_any_host_table_is_taken_and_registers_stay_32_bit(
    entries: list[CpuidEntry], vcpu: tuple[Topology, int]
) -> None:
    for vendor in (INTEL, AMD):
        for entry in for_vcpu([CpuidEntry(0, 0, 0, 0x10, vendor, 0, 0), *entries], *vcpu):
            assert all(0 <= word < 1 << 32 for word in vars(entry).values())


def test_topology_leaves_are_not_invented_for_an_old_cpu() -> None:
    old = [replace(entry) for entry in host(INTEL, highest=0xA) if entry.function != 0xB]
    assert not {0xB, 0x1F} & {entry.function for entry in for_vcpu(old, Topology(cores=2), 0)}


def test_guest_is_told_of_a_hypervisor_and_the_deadline_timer() -> None:
    ecx = leaf(for_vcpu(host(INTEL), Topology(), 0), 1).ecx
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

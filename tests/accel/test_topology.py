"""An APIC id says the place of its vCPU, and no two vCPUs have the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.accel.topology import Place, Topology

counts = st.integers(1, 7)
topologies = st.builds(Topology, counts, counts, counts, counts, counts)


def decoded(topology: Topology, apic_id: int) -> Place:
    """The place as a processor manual reads it: the field between two shifts."""

    def field(low: int, high: int) -> int:
        return (apic_id & (1 << high) - 1) >> low

    return Place(
        apic_id >> topology.socket_shift,
        field(topology.die_shift, topology.socket_shift),
        field(topology.core_shift, topology.die_shift),
        field(0, topology.core_shift),
    )


@given(topologies)
def test_every_place_is_read_back_from_its_apic_id(topology: Topology) -> None:
    indexes = range(min(topology.places, 300))
    assert [decoded(topology, topology.apic_id(index)) for index in indexes] == list(
        map(topology.place, indexes)
    )


@given(topologies)
def test_apic_ids_differ_and_rise_from_0(topology: Topology) -> None:
    ids = [topology.apic_id(index) for index in range(topology.places)]
    assert ids == sorted(set(ids))
    assert ids[0] == 0


@pytest.mark.parametrize(
    ("topology", "ids"),
    [
        (Topology(cores=3), [0, 1, 2]),
        (Topology(sockets=2, cores=3), [0, 1, 2, 4, 5, 6]),
        (Topology(dies=2, cores=1, threads=3), [0, 1, 2, 4, 5, 6]),
        (Topology(clusters=3, threads=2), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_ids_have_gaps_where_a_count_is_no_power_of_two(topology: Topology, ids: list[int]) -> None:
    assert [topology.apic_id(index) for index in range(topology.places)] == ids

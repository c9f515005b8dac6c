"""Guest memory: what is read is what was written, and no access leaves RAM."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.memory import FOUR_GIB, HOLE_START, BadAddress, GuestMemory, ram_ranges

MIB = 1 << 20
ADDRESSES = st.integers(min_value=-(1 << 63), max_value=(1 << 64) - 1)


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory.allocate(HOLE_START + 4 * MIB)
    yield memory
    memory.close()


def test_ram_up_to_three_gib_is_one_range() -> None:
    assert ram_ranges(256 * MIB) == [(0, 256 * MIB)]
    assert ram_ranges(HOLE_START) == [(0, HOLE_START)]


def test_ram_beyond_the_hole_goes_on_at_four_gib() -> None:
    assert ram_ranges(6 << 30) == [(0, HOLE_START), (FOUR_GIB, 3 << 30)]


def test_written_bytes_are_read_back_on_both_sides_of_the_hole(memory: GuestMemory) -> None:
    for gpa in (0, HOLE_START - 4, FOUR_GIB, FOUR_GIB + 4 * MIB - 4):
        memory.write(gpa, b"abcd")
        assert memory.read(gpa, 4) == b"abcd"


def test_views_write_through_and_are_released(memory: GuestMemory) -> None:
    with memory.view(0x1000, 4) as view:
        view[:] = b"wxyz"
    assert memory.read(0x1000, 4) == b"wxyz"
    with pytest.raises(ValueError, match="released"):
        view[0]


@pytest.mark.parametrize("gpa", [HOLE_START - 3, HOLE_START, FOUR_GIB - 1, FOUR_GIB + 4 * MIB - 3, -1])
def test_an_access_not_wholly_in_ram_is_refused(memory: GuestMemory, gpa: int) -> None:
    with pytest.raises(BadAddress):
        memory.read(gpa, 4)
    with pytest.raises(BadAddress):
        memory.write(gpa, b"1234")
    with pytest.raises(BadAddress), memory.view(gpa, 4):
        pass


@given(gpa=ADDRESSES, length=ADDRESSES)
def test_any_address_and_length_gives_a_region_that_holds_it_or_bad_address(gpa: int, length: int) -> None:
    memory = GuestMemory.allocate(1 * MIB)
    try:
        try:
            region = memory.region_at(gpa, length)
        except BadAddress:
            assert gpa < 0 or length < 0 or gpa + length > MIB
        else:
            assert region.gpa <= gpa <= gpa + length <= region.end
    finally:
        memory.close()


def test_writes_are_told_to_the_listener(memory: GuestMemory) -> None:
    told: list[tuple[int, int]] = []
    memory.written = lambda gpa, length: told.append((gpa, length))
    memory.write(0x2000, b"hello")
    assert told == [(0x2000, 5)]


def test_clear_makes_all_of_ram_zero(memory: GuestMemory) -> None:
    memory.write(0x5000, b"\xff" * 100)
    memory.write(FOUR_GIB, b"\xff" * 100)
    memory.clear()
    assert memory.read(0x5000, 100) == memory.read(FOUR_GIB, 100) == bytes(100)

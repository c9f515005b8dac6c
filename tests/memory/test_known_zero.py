"""What is known to be zero without a look is zero, and asking costs no memory."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratovirt.memory import GuestMemory
from stratovirt.memory.files import SharedRegion, map_regions
from stratovirt.memory.pagemap import is_untouched
from stratovirt.memory.template import map_template

PAGE = mmap.PAGESIZE
MIB = 1 << 20


@pytest.fixture
def template(tmp_path: Path) -> Iterator[GuestMemory]:
    """64 MiB, with data in the page at 40 MiB."""
    fd = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 64 * MIB)
    os.pwrite(fd, b"x" * PAGE, 40 * MIB)
    memory = map_template(fd, 64 * MIB)
    os.close(fd)
    yield memory
    memory.close()


@pytest.fixture
def shared() -> Iterator[GuestMemory]:
    """64 MiB of which another process has written the page at 40 MiB."""
    fd = os.memfd_create("ram")
    os.truncate(fd, 64 * MIB)
    os.pwrite(fd, b"x" * PAGE, 40 * MIB)
    memory = map_regions(SharedRegion, fd, 64 * MIB, shared=True)
    os.close(fd)
    yield memory
    memory.close()


def test_untouched_anonymous_memory_is_known_to_be_zero_until_written() -> None:
    memory = GuestMemory.allocate(64 * MIB)
    [region] = memory.regions
    assert region.known_zero(0, 64 * MIB)
    memory.write(40 * MIB, b"x")
    assert not region.known_zero(0, 64 * MIB)
    assert not region.known_zero(40 * MIB, PAGE)
    assert region.known_zero(0, 36 * MIB)
    memory.discard(0, 64 * MIB)
    assert region.known_zero(0, 64 * MIB)
    memory.close()


@pytest.mark.parametrize("kind", ["template", "shared"])
def test_only_holes_of_a_file_are_known_to_be_zero(kind: str, request: pytest.FixtureRequest) -> None:
    memory: GuestMemory = request.getfixturevalue(kind)
    [region] = memory.regions
    assert region.known_zero(0, 40 * MIB)
    assert region.known_zero(41 * MIB, 23 * MIB)
    assert not region.known_zero(0, 64 * MIB)
    assert not region.known_zero(40 * MIB, PAGE)


@pytest.mark.parametrize("kind", ["template", "shared"])
def test_holes_that_the_guest_wrote_to_are_not(kind: str, request: pytest.FixtureRequest) -> None:
    memory: GuestMemory = request.getfixturevalue(kind)
    memory.write(8 * MIB, b"y")
    assert not memory.regions[0].known_zero(0, 16 * MIB)
    memory.discard(8 * MIB, PAGE)
    assert memory.read(8 * MIB, 1) == b"\0"


def test_what_was_discarded_from_shared_memory_is_known_to_be_zero(shared: GuestMemory) -> None:
    shared.discard(40 * MIB, PAGE)
    assert shared.regions[0].known_zero(0, 64 * MIB)


def test_regions_know_where_in_the_file_they_begin() -> None:
    fd = os.memfd_create("ram")
    os.truncate(fd, (3 << 30) + 2 * MIB)
    os.pwrite(fd, b"x", (3 << 30) + MIB)
    memory = map_template(fd, (3 << 30) + 2 * MIB)
    os.close(fd)
    low, high = memory.regions
    assert low.known_zero(0, 3 << 30)
    assert high.known_zero(0, MIB)
    assert not high.known_zero(MIB, MIB)
    memory.close()


def test_an_address_that_the_host_does_not_know_is_not_vouched_for() -> None:
    assert not is_untouched(1 << 62, PAGE)
    assert Path("/proc/self/pagemap").exists()

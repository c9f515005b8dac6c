"""Whoever runs off an end of guest RAM meets a page that is not there."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratovirt.memory import GuestMemory
from stratovirt.memory.mapping import HUGE_PAGE
from stratovirt.memory.template import map_template

MIB = 1 << 20


@pytest.fixture(params=["anonymous", "template"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GuestMemory]:
    if request.param == "anonymous":
        memory = GuestMemory.allocate(3 * MIB)
    else:
        path = tmp_path / "memory"
        path.write_bytes(bytes(3 * MIB))
        with path.open("rb") as file:
            memory = map_template(file.fileno(), 3 * MIB)
    yield memory
    memory.close()


def readable(address: int) -> bool:
    """Can this process read there? The kernel says so without a crash."""
    read_end, write_end = os.pipe()
    try:
        return ctypes.CDLL(None).write(write_end, ctypes.c_void_p(address), 1) == 1
    finally:
        os.close(read_end)
        os.close(write_end)


def test_there_is_nothing_before_and_behind_guest_ram(memory: GuestMemory) -> None:
    [region] = memory.regions
    assert readable(region.host_address)
    assert readable(region.host_address + region.size - 1)
    for address in (region.host_address - 1, region.host_address - 4096, region.host_address + region.size):
        assert not readable(address)


def test_guest_ram_starts_at_a_huge_page(memory: GuestMemory) -> None:
    assert memory.regions[0].host_address % HUGE_PAGE == 0

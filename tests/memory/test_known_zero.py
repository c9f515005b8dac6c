"""What is known to be zero without a look is zero, and asking costs no memory."""

import mmap
from pathlib import Path

from stratovirt.memory import GuestMemory
from stratovirt.memory.pagemap import is_untouched

PAGE = mmap.PAGESIZE
MIB = 1 << 20


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


def test_asking_touches_nothing() -> None:
    memory = GuestMemory.allocate(64 * MIB)
    for _ in range(2):
        assert memory.regions[0].known_zero(0, 64 * MIB)
    memory.close()


def test_an_address_that_the_host_does_not_know_is_not_vouched_for() -> None:
    assert not is_untouched(1 << 62, PAGE)
    assert Path("/proc/self/pagemap").exists()

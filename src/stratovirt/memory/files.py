"""RAM in a file: one that other processes share, or one whose file system has huge pages.

The law: the file is as long as RAM, and holds its regions one after the other.
"""

from __future__ import annotations

import mmap

from stratovirt.memory.guest import GuestMemory, Region
from stratovirt.memory.layout import ram_ranges
from stratovirt.memory.mapping import Room, map_file


class SharedRegion(Region):
    """RAM that is the file: whoever maps it too sees what the guest writes."""

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole into the file: its pages go back to the host, and read zero from now on."""
        self.room.mapping.madvise(mmap.MADV_REMOVE, self.room.start + offset, length)

    def known_zero(self, offset: int, length: int) -> bool:
        """No: what this process never touched may be in the file."""
        return False


def map_regions(
    kind: type[Region], fd: int, size: int, *, shared: bool = False, page_size: int = mmap.PAGESIZE
) -> GuestMemory:
    """RAM of ``size`` bytes from the beginning of the file ``fd``.

    :param kind: how the regions give pages back.
    :param fd: it may be closed afterwards.
    :raises OSError: the host refuses the mapping.
    """
    regions: list[Region] = []
    offset = 0
    try:
        for gpa, length in ram_ranges(size):
            regions.append(kind(gpa, length, Room(length, page_size), page_size))
            reserve = page_size != mmap.PAGESIZE
            map_file(regions[-1].host_address, length, fd, offset, shared=shared, reserve=reserve)
            offset += length
    except OSError:
        for region in regions:
            region.close()
        raise
    return GuestMemory(regions)

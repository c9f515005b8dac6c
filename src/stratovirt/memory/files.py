"""RAM in a file: one that other processes share, or one whose file system has huge pages.

The law: the file is as long as RAM, and holds its regions one after the other.
"""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass

from stratovirt.memory.guest import GuestMemory, Region
from stratovirt.memory.layout import ram_ranges
from stratovirt.memory.mapping import Room, map_file


def is_hole(fd: int, start: int, length: int) -> bool:
    """Has the file no data in ``[start, start + length)`` (lseek(2), SEEK_DATA)?"""
    try:
        return os.lseek(fd, start, os.SEEK_DATA) >= start + length
    except OSError as error:
        return error.errno == errno.ENXIO  # there is none up to its end


@dataclass(frozen=True)
class FileRegion(Region):
    """RAM whose room is a map of a file.

    :param fd: the file, the region's own.
    :param start: where in the file the region begins.
    """

    fd: int = -1
    start: int = 0

    def is_hole(self, offset: int, length: int) -> bool:
        """Has the file nothing there? It reads zero then."""
        return is_hole(self.fd, self.start + offset, length)

    def close(self) -> None:
        super().close()
        os.close(self.fd)


class SharedRegion(FileRegion):
    """RAM that is the file: whoever maps it too sees what the guest writes."""

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole into the file: its pages go back to the host, and read zero from now on."""
        self.room.mapping.madvise(mmap.MADV_REMOVE, self.room.start + offset, length)

    def known_zero(self, offset: int, length: int) -> bool:
        """Is there a hole? Memory that others have written is in the file, touched here or not."""
        return self.is_hole(offset, length)


def map_regions(
    kind: type[FileRegion], fd: int, size: int, *, shared: bool = False, page_size: int = mmap.PAGESIZE
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
            room = Room(length, page_size)
            regions.append(kind(gpa, length, room, page_size, os.dup(fd), offset))
            reserve = page_size != mmap.PAGESIZE
            map_file(room.address, length, fd, offset, shared=shared, reserve=reserve)
            offset += length
    except OSError:
        for region in regions:
            region.close()
        raise
    return GuestMemory(regions)

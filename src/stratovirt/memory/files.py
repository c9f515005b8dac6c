"""RAM in a file: one that other processes share, or one whose file system has huge pages.

The law: the file is as long as RAM, and holds its regions one after the other.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
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


def data_runs(fd: int, start: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    """Runs of ``[start, start + length)`` outside of which the file has no data, as ``(start, end)``.

    :param step: they begin and end at multiples of it from ``start``, so that there are not too many.
    """
    limit = start + length
    first = end = start
    while not is_hole(fd, end, limit - end):
        data = os.lseek(fd, end, os.SEEK_DATA)
        data -= (data - start) % step
        if data > end:
            if end > first:
                yield first, end
            first = data
        end = min(data + step, limit)
    if end > first:
        yield first, end


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

    def fill(region: FileRegion) -> None:
        reserve = page_size != mmap.PAGESIZE
        map_file(region.host_address, region.size, fd, region.start, shared=shared, reserve=reserve)

    return lay_out(kind, fd, size, fill, page_size)


def lay_out(
    kind: type[FileRegion],
    fd: int,
    size: int,
    fill: Callable[[FileRegion], None],
    page_size: int = mmap.PAGESIZE,
) -> GuestMemory:
    """Room for RAM of ``size`` bytes, into which ``fill`` maps the file, a region at a time.

    :raises OSError: the host refuses.
    """
    regions: list[FileRegion] = []
    start = 0
    try:
        for gpa, length in ram_ranges(size):
            regions.append(kind(gpa, length, Room(length, page_size), page_size, os.dup(fd), start))
            fill(regions[-1])
            start += length
    except OSError:
        for region in regions:
            region.close()
        raise
    return GuestMemory(regions)

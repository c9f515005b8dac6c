"""GuestMemory: bounds-checked access to the guest's RAM.

The law of this file: no guest address is followed before it is checked, and no view outlives a
region's ``close()`` unnoticed (closing with a view still exported raises BufferError).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

from stratovirt.memory.layout import ram_ranges
from stratovirt.memory.mapping import Room
from stratovirt.memory.pagemap import is_untouched

MADV_POPULATE_WRITE = 23
"""<sys/mman.h>; Python has no name for it."""


class BadAddress(Exception):
    """A guest physical address range is not wholly inside one region of RAM."""

    def __init__(self, gpa: int, length: int) -> None:
        super().__init__(f"guest address {gpa:#x}, length {length:#x}, is not in RAM")
        self.gpa = gpa
        self.length = length


@dataclass(frozen=True)
class Region:
    """A run of guest RAM: a mapping of the host's at a guest physical address.

    :param gpa: first guest physical address, page-aligned.
    :param size: bytes, a multiple of the page size.
    :param room: anonymous and private memory, hence in huge pages where the host has them to give;
        :mod:`stratovirt.memory.files` puts a file there.
    :param page_size: what the host takes and gives back at once.
    """

    gpa: int
    size: int
    room: Room
    page_size: int = mmap.PAGESIZE

    @property
    def end(self) -> int:
        """First guest physical address behind the region."""
        return self.gpa + self.size

    @property
    def host_address(self) -> int:
        """Host virtual address of the first byte, as accelerators want it."""
        return self.room.address

    def discard(self, offset: int, length: int) -> None:
        """Give whole pages back to the host; they read zero from now on."""
        self.room.mapping.madvise(mmap.MADV_DONTNEED, self.room.start + offset, length)

    def known_zero(self, offset: int, length: int) -> bool:
        """Is it known, without touching them, that these bytes are zero?"""
        return is_untouched(self.host_address + offset, length)

    def advise(self, advice: int) -> None:
        """Tell the host about the whole region (madvise(2)).

        :raises OSError: it does not understand, or cannot.
        """
        self.room.mapping.madvise(advice, self.room.start, self.size)

    @cached_property
    def bytes(self) -> memoryview:
        """All of it, writable."""
        return memoryview(self.room.mapping)[self.room.start : self.room.start + self.size]

    def close(self) -> None:
        """Unmap.

        :raises BufferError: a view of the region is still in use.
        """
        self.bytes.release()
        self.room.mapping.close()


def _ignore_write(_gpa: int, _length: int) -> None:
    """What happens to writes while no accelerator listens."""


class GuestMemory:
    """The guest's RAM.

    ``written`` is called with ``(gpa, length)`` after each :meth:`write`; the machine points it at the
    accelerator, which may hold translated code of those bytes. Who writes through :meth:`view` calls it.

    :ivar native_written: the same for C: address of a ``struct native_written``, 0 if nobody listens. None: C
        cannot tell, so it must not write.
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
        self.written: Callable[[int, int], None] = _ignore_write
        self.native_written: int | None = None
        self.resident = False

    @classmethod
    def allocate(cls, size: int) -> GuestMemory:
        """Anonymous, sparse RAM of ``size`` bytes, laid out as :func:`ram_ranges` says.

        :raises OSError: the host refuses the mapping.
        """
        regions: list[Region] = []
        try:
            for gpa, length in ram_ranges(size):
                regions.append(_anonymous_region(gpa, length))
        except OSError:
            for region in regions:
                region.close()
            raise
        return cls(regions)

    @property
    def size(self) -> int:
        """Bytes of RAM in all."""
        return sum(region.size for region in self.regions)

    def region_at(self, gpa: int, length: int) -> Region:
        """The region that holds all of ``[gpa, gpa + length)``.

        :raises BadAddress: there is none.
        """
        for region in self.regions:
            if region.gpa <= gpa and 0 <= length <= region.end - gpa:
                return region
        raise BadAddress(gpa, length)

    @contextmanager
    def view(self, gpa: int, length: int) -> Iterator[memoryview]:
        """A writable view of ``length`` bytes at ``gpa``, released at the end of the ``with`` block.

        :raises BadAddress: the range is not in RAM.
        """
        region = self.region_at(gpa, length)
        offset = gpa - region.gpa
        with region.bytes[offset : offset + length] as part:
            yield part

    def segment(self, gpa: int, length: int) -> memoryview:
        """A writable view of ``length`` bytes at ``gpa``; the caller lets go of it before :meth:`close`.

        :raises BadAddress: the range is not in RAM.
        """
        region = self.region_at(gpa, length)
        offset = gpa - region.gpa
        return region.bytes[offset : offset + length]

    def native_regions(self) -> list[tuple[int, int, int]]:
        """For C: guest physical address, size and host address of each region."""
        return [(region.gpa, region.size, region.host_address) for region in self.regions]

    def host_address(self, gpa: int, length: int) -> int:
        """Where ``length`` bytes at ``gpa`` are in this process, until :meth:`close`.

        :raises BadAddress: the range is not in RAM.
        """
        region = self.region_at(gpa, length)
        return region.host_address + gpa - region.gpa

    def read(self, gpa: int, length: int) -> bytes:
        """A copy of ``length`` bytes at ``gpa``.

        :raises BadAddress: the range is not in RAM.
        """
        region = self.region_at(gpa, length)
        offset = gpa - region.gpa
        return bytes(region.bytes[offset : offset + length])

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Store ``data`` at ``gpa``.

        :raises BadAddress: the range is not in RAM.
        """
        length = len(data)
        region = self.region_at(gpa, length)
        offset = gpa - region.gpa
        region.bytes[offset : offset + length] = bytes(data)
        self.written(gpa, length)

    def discard(self, gpa: int, length: int) -> None:
        """Give the pages that lie wholly in the range back to the host: they read zero from now on.

        What a restored machine was started from stays as it is. A range without a whole page is left alone.

        :raises BadAddress: the range is not in RAM.
        """
        region = self.region_at(gpa, length)
        page = region.page_size
        first = -(-gpa // page) * page
        pages = (gpa + length - first) // page * page
        if pages > 0:
            region.discard(first - region.gpa, pages)
            self.written(first, pages)

    def clear(self) -> None:
        """Make all of RAM zero by giving its pages back to the host."""
        for region in self.regions:
            self.discard(region.gpa, region.size)
        if self.resident:
            self.populate()

    def populate(self) -> None:
        """Take all of RAM's pages from the host now, and again whenever RAM is cleared (madvise(2)).

        :raises OSError: the host does not have so many, or its kernel is older than 5.14.
        """
        self.resident = True
        for region in self.regions:
            region.advise(MADV_POPULATE_WRITE)

    def close(self) -> None:
        """Unmap everything. Nothing may run on the memory any more."""
        for region in self.regions:
            region.close()


def _anonymous_region(gpa: int, length: int) -> Region:
    region = Region(gpa, length, Room(length))
    # Booting Linux touches some 100 MiB: in huge pages, 25,000 faults of the host less than in small ones.
    with suppress(OSError):  # a host kernel built without them
        region.advise(mmap.MADV_HUGEPAGE)
    return region

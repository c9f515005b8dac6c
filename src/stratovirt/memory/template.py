"""RAM that begins as the contents of a file, which it never changes.

The law: the file is mapped privately and opened for reading only; nothing here reaches it any other way.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from stratovirt.memory.files import FileRegion, map_regions
from stratovirt.memory.guest import GuestMemory
from stratovirt.memory.mapping import map_zeros


class TemplateRegion(FileRegion):
    """RAM that shares the file's pages with the page cache until the guest writes to them."""

    def discard(self, offset: int, length: int) -> None:
        """Let whole pages read zero; MADV_DONTNEED would bring the file's contents back.

        Fresh anonymous pages take their place. The host allows some 65,530 mappings per process
        (vm.max_map_count): where no more can be had, the pages are filled with zeros instead.

        :raises OSError: the host refuses for another reason.
        """
        try:
            map_zeros(self.host_address + offset, length)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            ctypes.memset(self.host_address + offset, 0, length)

    def known_zero(self, offset: int, length: int) -> bool:
        """Has the file a hole there, and was it never touched?"""
        return self.is_hole(offset, length) and super().known_zero(offset, length)


def map_template(fd: int, size: int) -> GuestMemory:
    """RAM of ``size`` bytes, a private map of the file ``fd``, which holds the regions one after the other.

    :param fd: open for reading; it may be closed afterwards.
    :raises OSError: the host refuses the mapping.
    """
    return map_regions(TemplateRegion, fd, size)


def read_template(fd: int, memory: GuestMemory) -> None:
    """Fill fresh RAM with what :func:`map_template` would show; holes of the file are not touched.

    :raises OSError: the file cannot be read, or ends too early.
    """
    offset = 0
    for region in memory.regions:
        for start, end in _data(fd, offset, offset + region.size):
            with region.bytes[start - offset : end - offset] as target:
                _read_all(fd, target, start)
        offset += region.size


def _data(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of ``[start, end)`` that are no holes of the file (lseek(2))."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        hole = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        if start < hole:
            yield start, hole
        start = hole


def _read_all(fd: int, target: memoryview, offset: int) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(fd, [target[done:]], offset + done)
        if not count:
            raise OSError(errno.EIO, "the file ends too early")
        done += count

"""RAM that begins as the contents of a file, which it never changes.

The law: the file is mapped privately and opened for reading only; nothing here reaches it any other way.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass, field

from stratovirt.memory.files import FileRegion, data_runs, lay_out
from stratovirt.memory.guest import GuestMemory
from stratovirt.memory.mapping import HUGE_PAGE, map_file, map_zeros

MAX_SPLITS = 8192
"""Discards of a region that may each split a mapping in three. A process has 65,530 of them
(vm.max_map_count), there are two regions at most, and threads need some too."""


class Splits:
    """How often a region's mapping was split."""

    count = 0


@dataclass(frozen=True)
class TemplateRegion(FileRegion):
    """RAM that shares the file's pages with the page cache until the guest writes to them."""

    splits: Splits = field(default_factory=Splits, repr=False, compare=False)

    def discard(self, offset: int, length: int) -> None:
        """Let whole pages read zero; MADV_DONTNEED would bring the file's contents back.

        Fresh anonymous pages take their place; after :data:`MAX_SPLITS`, zeros are written instead.

        :raises OSError: the host refuses.
        """
        if length == self.size:
            self.splits.count = 0
        elif self.splits.count == MAX_SPLITS:
            ctypes.memset(self.host_address + offset, 0, length)
            return
        else:
            self.splits.count += 1
        map_zeros(self.host_address + offset, length)

    def known_zero(self, offset: int, length: int) -> bool:
        """Has the file a hole there, and was it never touched?"""
        return self.is_hole(offset, length) and super().known_zero(offset, length)


def map_template(fd: int, size: int) -> GuestMemory:
    """RAM of ``size`` bytes that begins as the file ``fd``, which holds the regions one after the other.

    Only what has data is a private map of the file. Holes of 2 MiB and more stay anonymous: to touch them
    costs a page of memory, not one of the page cache too.

    :param fd: open for reading; it may be closed afterwards.
    :raises OSError: the host refuses the mapping.
    """
    return lay_out(TemplateRegion, fd, size, _map_data)


def _map_data(region: FileRegion) -> None:
    for start, end in data_runs(region.fd, region.start, region.size, HUGE_PAGE):
        map_file(region.host_address + start - region.start, end - start, region.fd, start)


def read_template(fd: int, memory: GuestMemory) -> None:
    """Fill fresh RAM with what :func:`map_template` would show; large holes of the file are not touched.

    :raises OSError: the file cannot be read, or ends too early.
    """
    offset = 0
    for region in memory.regions:
        for start, end in data_runs(fd, offset, region.size, HUGE_PAGE):
            with region.bytes[start - offset : end - offset] as target:
                _read_all(fd, target, start)
        offset += region.size


def _read_all(fd: int, target: memoryview, offset: int) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(fd, [target[done:]], offset + done)
        if not count:
            raise OSError(errno.EIO, "the file ends too early")
        done += count

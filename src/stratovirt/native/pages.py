"""Which pages of guest memory hold anything but zeros."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from stratovirt.native._native import ffi, lib

_FILLED = re.compile(b"\1+")


def filled_runs(address: int, length: int) -> Iterator[tuple[int, int]]:
    """Runs of pages that are not zero, as ``(offset, end)`` in bytes from ``address``, ascending.

    :param address: the host's, of memory that can be read; ``length`` is a multiple of the page size.
    """
    count = length // mmap.PAGESIZE
    filled = ffi.new("uint8_t[]", count)
    lib.pages_filled(address, count, mmap.PAGESIZE, filled)
    for run in _FILLED.finditer(ffi.buffer(filled)):
        yield run.start() * mmap.PAGESIZE, run.end() * mmap.PAGESIZE

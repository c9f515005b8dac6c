"""Guest memory on its way into a file: which pages hold anything but zeros, and a checksum."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from stratovirt.native._native import ffi, lib

CHECKSUM_SIZE: int = 4 * lib.CHECKSUM_LANES

MIN_HOLE = 64 << 10
"""Bytes of zeros that are worth a hole. Precedent: the clusters of qcow2. With holes of a page, the RAM of a
Linux guest falls into six times as many pieces, for 2 % less bytes; and what a file costs is its pieces."""

_FILLED = re.compile(rb"\x01+(?:\x00{1,%d}\x01+)*" % (MIN_HOLE // mmap.PAGESIZE - 1))


def filled_runs(address: int, length: int) -> Iterator[tuple[int, int]]:
    """Runs of pages, as ``(offset, end)`` in bytes from ``address``, ascending, with all that is not zero.

    They begin and end with a page that is not; in between there are fewer than MIN_HOLE zeros in a row.

    :param address: the host's, of memory that can be read; ``length`` is a multiple of the page size.
    """
    count = length // mmap.PAGESIZE
    filled = ffi.new("uint8_t[]", count)
    lib.pages_filled(address, count, mmap.PAGESIZE, filled)
    for run in _FILLED.finditer(ffi.buffer(filled)):
        yield run.start() * mmap.PAGESIZE, run.end() * mmap.PAGESIZE


def checksum(data: bytes | memoryview) -> bytes:
    """Four CRC-32C, little-endian: number ``i`` is of the 64-bit words ``i``, ``i + 4``, ``i + 8``, …

    Finds every change of 32 bits or less in a row. Precedent: Btrfs and ext4 use CRC-32C, for which
    processors have an instruction since 2008; SHA-256 takes longer than the disk.

    :param data: a multiple of 32 bytes.
    """
    lanes = ffi.new("uint32_t[]", lib.CHECKSUM_LANES)
    lib.pages_checksum(ffi.from_buffer(data), len(data), lanes)
    return bytes(ffi.buffer(lanes))

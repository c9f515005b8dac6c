"""Guest memory on its way into a file: which pages hold anything but zeros, and a checksum."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from stratovirt.native._native import ffi, lib

CHECKSUM_SIZE: int = 4 * lib.CHECKSUM_LANES

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


def checksum(data: bytes | memoryview) -> bytes:
    """Four CRC-32C, little-endian: number ``i`` is of the 64-bit words ``i``, ``i + 4``, ``i + 8``, …

    Finds every change of 32 bits or less in a row. Precedent: Btrfs and ext4 use CRC-32C, for which
    processors have an instruction since 2008; SHA-256 takes longer than the disk.

    :param data: a multiple of 32 bytes.
    """
    lanes = ffi.new("uint32_t[]", lib.CHECKSUM_LANES)
    lib.pages_checksum(ffi.from_buffer(data), len(data), lanes)
    return bytes(ffi.buffer(lanes))

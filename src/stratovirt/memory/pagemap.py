"""What the host's page tables say about this process's memory (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

import mmap

_ENTRY = 8
"""Bytes per page; the last one has the flags present, swapped and file-mapped: 0 for a page never touched."""


def is_untouched(address: int, length: int) -> bool:
    """Has no page of ``[address, address + length)`` ever been touched, or all been given back to the host?

    False if the host does not tell. Asking touches nothing.
    """
    first, end = address // mmap.PAGESIZE, -(-(address + length) // mmap.PAGESIZE)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(first * _ENTRY)
            entries = pagemap.read((end - first) * _ENTRY) or b""
    except OSError:
        return False
    flags = entries[_ENTRY - 1 :: _ENTRY]
    return flags == bytes(end - first)

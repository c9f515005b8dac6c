"""Page tables and descriptor table for a kernel's 64-bit entry point.

The boot protocol wants the loaded kernel, the zero page and the command line identity-mapped; here
all of the first 4 GiB is, in pages of 2 MiB (Intel SDM vol. 3, §4.5.4).
"""

from __future__ import annotations

import struct

from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR
from stratovirt.boot import lowmem
from stratovirt.memory import FOUR_GIB, GuestMemory

_PAGE = 4096
_LARGE_PAGE = 2 << 20
_PRESENT_WRITABLE = 0x03
_LARGE = 0x80
_GIB = 1 << 30

# Flat, present, ring 0, accessed (Intel SDM vol. 3, §3.4.5): L=1 code, 32-bit data.
_CODE_64 = 0x00AF_9B00_0000_FFFF
_DATA = 0x00CF_9300_0000_FFFF


def write_page_tables(memory: GuestMemory) -> int:
    """Write an identity map of 4 GiB; returns its CR3."""
    pml4 = lowmem.PAGE_TABLES
    pdpt = pml4 + _PAGE
    directories = pdpt + _PAGE
    gigabytes = range(directories, directories + FOUR_GIB // _GIB * _PAGE, _PAGE)
    large_pages = range(0, FOUR_GIB, _LARGE_PAGE)
    memory.write(pml4, _table([pdpt | _PRESENT_WRITABLE]))
    memory.write(pdpt, _table([directory | _PRESENT_WRITABLE for directory in gigabytes]))
    memory.write(directories, _table([page | _PRESENT_WRITABLE | _LARGE for page in large_pages]))
    return pml4


def write_gdt(memory: GuestMemory) -> tuple[int, int]:
    """Write the GDT with the selectors that :class:`CpuStart` promises; returns ``(base, limit)``."""
    entries = [0] * (BOOT_DATA_SELECTOR // 8 + 1)
    entries[BOOT_CODE_SELECTOR // 8] = _CODE_64
    entries[BOOT_DATA_SELECTOR // 8] = _DATA
    table = struct.pack(f"<{len(entries)}Q", *entries)
    memory.write(lowmem.GDT, table)
    return lowmem.GDT, len(table) - 1


def _table(entries: list[int]) -> bytes:
    """Entries, padded with absent ones to whole pages."""
    raw = struct.pack(f"<{len(entries)}Q", *entries)
    return raw.ljust(-(-len(raw) // _PAGE) * _PAGE, b"\0")

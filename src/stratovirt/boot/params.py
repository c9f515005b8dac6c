"""boot_params, the "zero page" (Linux Documentation/arch/x86/zero-page.rst), and the command line."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from stratovirt.boot import lowmem
from stratovirt.boot.bzimage import START, SetupHeader
from stratovirt.boot.platform import Platform
from stratovirt.memory import GuestMemory, ram_ranges

_SIZE = 4096
_ACPI_RSDP_ADDR = 0x070
_E820_ENTRIES = 0x1E8
_TYPE_OF_LOADER = 0x210
_RAMDISK_IMAGE = 0x218
_CMD_LINE_PTR = 0x228
_E820_TABLE = 0x2D0
_E820_ENTRY = struct.Struct("<QQI")
_LOADER_UNKNOWN = 0xFF

E820_RAM = 1
E820_RESERVED = 2
E820_ACPI = 3


@dataclass(frozen=True)
class Initrd:
    """An initial RAM disk: its file, its size in bytes and the guest physical address it goes to."""

    path: str
    size: int
    gpa: int


def e820_map(memory_size: int, *, acpi: bool) -> list[tuple[int, int, int]]:
    """``(address, length, type)`` of RAM and of what lies in it that is not free, ascending."""
    tables = E820_ACPI if acpi else E820_RESERVED
    (_, low), *high = ram_ranges(memory_size)
    return [
        (0, lowmem.EBDA, E820_RAM),
        (lowmem.EBDA, lowmem.EBDA_END - lowmem.EBDA, E820_RESERVED),
        (lowmem.ACPI_TABLES, lowmem.HIGH_MEMORY - lowmem.ACPI_TABLES, tables),
        (lowmem.HIGH_MEMORY, low - lowmem.HIGH_MEMORY, E820_RAM),
        *((address, length, E820_RAM) for address, length in high),
    ]


def boot_params(header: SetupHeader, memory_size: int, initrd: Initrd | None, rsdp: int) -> bytes:
    """The zero page.

    :param header: copied in, with the loader's fields filled.
    :param rsdp: guest physical address of the ACPI RSDP; 0 without ACPI.
    """
    page = bytearray(_SIZE)
    page[START : START + len(header.raw)] = header.raw
    page[_TYPE_OF_LOADER] = _LOADER_UNKNOWN
    struct.pack_into("<I", page, _CMD_LINE_PTR, lowmem.CMDLINE)
    struct.pack_into("<Q", page, _ACPI_RSDP_ADDR, rsdp)
    struct.pack_into("<II", page, _RAMDISK_IMAGE, *((initrd.gpa, initrd.size) if initrd else (0, 0)))
    entries = e820_map(memory_size, acpi=bool(rsdp))
    page[_E820_ENTRIES] = len(entries)
    for index, entry in enumerate(entries):
        _E820_ENTRY.pack_into(page, _E820_TABLE + index * _E820_ENTRY.size, *entry)
    return bytes(page)


def write_bios_data(memory: GuestMemory) -> None:
    """Tell the guest, as a BIOS does, where the EBDA is: Linux looks for the MP table there."""
    memory.write(lowmem.BDA_EBDA_SEGMENT, struct.pack("<H", lowmem.EBDA >> 4))
    memory.write(lowmem.BDA_BASE_MEMORY_KIB, struct.pack("<H", lowmem.EBDA >> 10))


def write_reset_vector(memory: GuestMemory, platform: Platform) -> None:
    """All the firmware there is: real-mode code that resets the machine.

    On hardware-reduced ACPI Linux reboots by EFI and, having none, by a jump to where a BIOS would be
    (arch/x86/kernel/reboot.c: BOOT_EFI, then BOOT_BIOS), before it would try the ACPI reset register.
    """
    mov_dx, mov_al, out_dx_al, hlt, jump_to_hlt = b"\xba", b"\xb0", b"\xee", b"\xf4", b"\xeb\xfd"
    port, value = struct.pack("<H", platform.reset_port), bytes([platform.reset_value])
    memory.write(lowmem.RESET_VECTOR, mov_dx + port + mov_al + value + out_dx_al + hlt + jump_to_hlt)

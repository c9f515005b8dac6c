"""What a kernel's 64-bit entry point relies on: the memory map, page tables, descriptors, BIOS data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR
from stratovirt.boot import bzimage, lowmem, paging, params
from stratovirt.boot.platform import Platform
from stratovirt.memory import GuestMemory
from tests.boot_images.conftest import RAM

MIB = 1 << 20
GIB = 1 << 30
PRESENT, WRITABLE, LARGE = 0x01, 0x02, 0x80


@pytest.fixture(scope="module")
def paged() -> Iterator[tuple[GuestMemory, int]]:
    """RAM with page tables in it, and their CR3; the RAM was not zero before."""
    memory = GuestMemory.allocate(RAM)
    memory.write(0, b"\xff" * MIB)
    yield memory, paging.write_page_tables(memory)
    memory.close()


def walk(memory: GuestMemory, table: int, address: int) -> int | None:
    """The physical address that a CPU in 64-bit mode finds; None is a page fault."""
    for shift in (39, 30, 21):
        index = address >> shift & 0x1FF
        entry = int.from_bytes(memory.read(table + 8 * index, 8), "little")
        if not entry & PRESENT or not entry & WRITABLE:
            return None
        if entry & LARGE:
            return (entry & ~0x1FFF) + (address & (1 << shift) - 1)
        table = entry & ~0xFFF
    raise AssertionError("no page of 4 KiB is in use")


@given(address=st.integers(0, 4 * GIB - 1))
@example(address=0)
@example(address=4 * GIB - 1)
def test_the_first_4_gib_are_mapped_onto_themselves(paged: tuple[GuestMemory, int], address: int) -> None:
    """Walking the tables as a CPU does leads every address below 4 GiB to itself."""
    assert walk(*paged, address) == address


@given(address=st.integers(4 * GIB, (1 << 48) - 1))
@example(address=4 * GIB)
def test_nothing_above_4_gib_is_mapped(paged: tuple[GuestMemory, int], address: int) -> None:
    """Stale bytes behind the entries would be mappings."""
    assert walk(*paged, address) is None


def test_gdt_has_the_selectors_of_the_boot_protocol(memory: GuestMemory) -> None:
    base, limit = paging.write_gdt(memory)
    table = struct.unpack(f"<{(limit + 1) // 8}Q", memory.read(base, limit + 1))
    code, data = table[BOOT_CODE_SELECTOR // 8], table[BOOT_DATA_SELECTOR // 8]
    assert table[0] == 0
    assert (code >> 40 & 0x9A, code >> 53 & 1) == (0x9A, 1)  # present, code, readable; 64-bit
    assert (data >> 40 & 0x9A, data >> 48 & 0xF, data & 0xFFFF, data >> 55 & 1) == (0x92, 0xF, 0xFFFF, 1)


@given(size=st.integers(128, 512 << 10).map(lambda mib: mib * MIB))
@example(size=3 * GIB)
@example(size=3 * GIB + MIB)
def test_e820_gives_out_all_ram_but_the_reserved_parts(size: int) -> None:
    """Entries ascend, do not overlap, and their RAM is the machine's without the space from EBDA to 1 MiB."""
    entries = params.e820_map(size, acpi=True)
    ends = [address + length for address, length, _ in entries]
    assert all(end <= start for end, (start, _, _) in zip(ends[:-1], entries[1:], strict=True))
    ram = sum(length for _, length, kind in entries if kind == params.E820_RAM)
    assert ram == size - (MIB - lowmem.EBDA)
    assert ends[-1] == (size if size <= 3 * GIB else size + GIB)


@pytest.mark.parametrize(("rsdp", "kind"), [(0xE0000, params.E820_ACPI), (0, params.E820_RESERVED)])
def test_boot_params_hold_the_map_and_where_acpi_tables_are(rsdp: int, kind: int) -> None:
    page = params.boot_params(bzimage.header_of_elf(), RAM, None, rsdp)
    table = struct.iter_unpack("<QQI", page[0x2D0 : 0x2D0 + 20 * page[0x1E8]])
    assert list(table) == params.e820_map(RAM, acpi=rsdp != 0)
    assert (0xE0000, 0x20000, kind) in params.e820_map(RAM, acpi=rsdp != 0)
    assert struct.unpack_from("<Q", page, 0x70) == (rsdp,)


def test_the_setup_header_is_copied_as_it_is_but_for_the_loaders_fields() -> None:
    header = bzimage.SetupHeader(bytes(range(1, bzimage.MAX_END - bzimage.START + 1)))
    page = params.boot_params(header, RAM, None, 0)
    differing = {0x1F1 + i for i, byte in enumerate(header.raw) if page[0x1F1 + i] != byte}
    assert differing == {0x210, *range(0x218, 0x220), *range(0x228, 0x22C)}


def test_bios_data_lead_to_the_ebda(memory: GuestMemory) -> None:
    params.write_bios_data(memory)
    assert int.from_bytes(memory.read(0x40E, 2), "little") * 16 == lowmem.EBDA
    assert int.from_bytes(memory.read(0x413, 2), "little") * 1024 == lowmem.EBDA


def test_the_reset_vector_writes_the_reset_register(memory: GuestMemory) -> None:
    params.write_reset_vector(memory, Platform(reset_port=0x1234, reset_value=0x56))
    code = memory.read(lowmem.RESET_VECTOR, 16)
    assert code.startswith(bytes.fromhex("ba3412b056ee"))  # mov dx, port; mov al, value; out dx, al


def test_nothing_in_low_memory_overlaps() -> None:
    areas = [
        (0x400, 0x500),
        (lowmem.GDT, lowmem.GDT + 0x20),
        (lowmem.BOOT_PARAMS, lowmem.BOOT_PARAMS + 0x1000),
        (lowmem.BOOT_PARAMS + 0x1000, lowmem.STACK_TOP),
        (lowmem.PAGE_TABLES, lowmem.PAGE_TABLES + 6 * 0x1000),
        (lowmem.CMDLINE, lowmem.CMDLINE_END),
        (lowmem.EBDA, lowmem.EBDA_END),
        (lowmem.ACPI_TABLES, lowmem.ACPI_TABLES_END),
        (lowmem.RESET_VECTOR, lowmem.RESET_VECTOR + 16),
        (lowmem.HIGH_MEMORY, lowmem.HIGH_MEMORY + 1),
    ]
    assert all(end <= start for (_, end), (start, _) in pairwise(areas))

"""The MP table names every CPU and interrupt, and device arguments every virtio-mmio slot."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from stratovirt.boot import Platform, VirtioSlot, lowmem, mptable
from stratovirt.memory import GuestMemory

PLATFORM = Platform()
SLOTS = [VirtioSlot(0xF010_0000, 0x200, 16), VirtioSlot(0xF010_0200, 0x200, 5)]
ENTRY_SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}  # MultiProcessor Specification 1.4, table 4-3
HEADER = 44


def entries(table: bytes) -> list[bytes]:
    found = []
    rest = table[HEADER:]
    while rest:
        size = ENTRY_SIZES[rest[0]]
        found.append(rest[:size])
        rest = rest[size:]
    return found


def written(memory: GuestMemory, apic_ids: Sequence[int]) -> bytes:
    """The table, reached as a kernel reaches it: from the EBDA, by the floating pointer."""
    mptable.write(memory, apic_ids, SLOTS, PLATFORM)
    pointer = memory.read(lowmem.EBDA, 16)
    assert (pointer[:4], pointer[8:10], sum(pointer) % 256) == (b"_MP_", b"\x01\x04", 0)
    address = int.from_bytes(pointer[4:8], "little")
    length = int.from_bytes(memory.read(address + 4, 2), "little")
    assert address + length <= lowmem.EBDA_END
    return memory.read(address, length)


@pytest.mark.parametrize("cpus", [1, 4, 254])
def test_table_is_whole_and_counts_its_entries(cpus: int, memory: GuestMemory) -> None:
    table = written(memory, range(cpus))
    assert (table[:4], sum(table) % 256) == (b"PCMP", 0)
    assert struct.unpack_from("<H", table, 34) == (len(entries(table)),)
    assert struct.unpack_from("<I", table, 36) == (PLATFORM.local_apic,)


@pytest.mark.parametrize("cpus", [1, 4, 254])
def test_every_cpu_is_listed_by_apic_id_and_the_first_starts(cpus: int, memory: GuestMemory) -> None:
    listed = [(entry[1], entry[3]) for entry in entries(written(memory, range(cpus))) if entry[0] == 0]
    assert listed == [(0, 3)] + [(cpu, 1) for cpu in range(1, cpus)]


def test_io_apic_id_is_no_cpus(memory: GuestMemory) -> None:
    (io_apic,) = (entry for entry in entries(written(memory, [0, 1, 4])) if entry[0] == 2)
    assert struct.unpack("<BBBBI", io_apic) == (2, 5, 0x14, 1, PLATFORM.io_apic)


def test_each_interrupt_has_one_input_and_virtio_ones_are_level(memory: GuestMemory) -> None:
    found = [struct.unpack("<BBHBBBB", entry) for entry in entries(written(memory, [0, 1])) if entry[0] == 3]
    inputs = {irq: pin for _, _, _, _, irq, _, pin in found}
    level = {irq for _, _, flags, _, irq, _, _ in found if flags == 0xD}
    assert inputs == {
        0: PLATFORM.timer_pin,
        **{irq: irq for irq in range(1, 24) if irq != PLATFORM.timer_pin},
    }
    assert level == {slot.gsi for slot in SLOTS}


def test_device_arguments_are_in_slot_order() -> None:
    assert mptable.device_arguments(SLOTS) == (
        "virtio_mmio.device=512@0xf0100000:16 virtio_mmio.device=512@0xf0100200:5"
    )
    assert mptable.device_arguments([]) == ""

"""MP table for kernels without ACPI (Intel MultiProcessor Specification 1.4, chapter 4).

It names CPUs, the IOAPIC and the interrupts; virtio-mmio devices are named on the kernel's command
line instead (Linux Documentation/admin-guide/kernel-parameters.txt, ``virtio_mmio.device=``).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from stratovirt.boot import lowmem
from stratovirt.boot.checksum import checksum
from stratovirt.boot.platform import Platform, VirtioSlot
from stratovirt.memory import GuestMemory

IO_APIC_PINS = 24

_REVISION = 4  # of specification 1.4
_PROCESSOR, _BUS, _IO_APIC, _IO_INTERRUPT, _LOCAL_INTERRUPT = range(5)
_ISA_BUS = 0
_APIC_VERSION = 0x14
_ENABLED, _BOOTSTRAP = 1, 2
_CPU_SIGNATURE, _CPU_FEATURES = 0x600, 0x201  # family 6; FPU and APIC
_INT, _NMI, _EXT_INT = 0, 1, 3
_CONFORMS, _LEVEL_HIGH = 0x0, 0xD  # of the bus: ISA is edge, high
_ALL_APICS = 0xFF


def write(
    memory: GuestMemory, apic_ids: Sequence[int], slots: Sequence[VirtioSlot], platform: Platform
) -> None:
    """Write the floating pointer and the table to the EBDA."""
    pointer = lowmem.EBDA
    table = pointer + 16
    memory.write(pointer, _floating_pointer(table))
    memory.write(table, mp_table(apic_ids, slots, platform))


def device_arguments(slots: Sequence[VirtioSlot]) -> str:
    """What goes onto the command line, in slot order: ``virtio_mmio.device=512@0xf0100000:16 …``."""
    return " ".join(f"virtio_mmio.device={slot.size}@{slot.address:#x}:{slot.gsi}" for slot in slots)


def mp_table(apic_ids: Sequence[int], slots: Sequence[VirtioSlot], platform: Platform) -> bytes:
    """The MP configuration table."""
    level = {slot.gsi for slot in slots}
    io_apic_id = max(apic_ids) + 1
    entries = [_processor(apic_id) for apic_id in apic_ids]
    entries.append(struct.pack("<BB6s", _BUS, _ISA_BUS, b"ISA   "))
    entries.append(struct.pack("<BBBBI", _IO_APIC, io_apic_id, _APIC_VERSION, _ENABLED, platform.io_apic))
    for irq, pin in _pins(platform):
        flags = _LEVEL_HIGH if irq in level else _CONFORMS
        entries.append(struct.pack("<BBHBBBB", _IO_INTERRUPT, _INT, flags, _ISA_BUS, irq, io_apic_id, pin))
    for kind, lint in ((_EXT_INT, 0), (_NMI, 1)):
        entries.append(
            struct.pack("<BBHBBBB", _LOCAL_INTERRUPT, kind, _CONFORMS, _ISA_BUS, 0, _ALL_APICS, lint)
        )
    return _table(entries, platform)


def _pins(platform: Platform) -> list[tuple[int, int]]:
    """``(ISA interrupt, IOAPIC input)``: equal, but for the timer, which has the PIC cascade's input."""
    pins = [(irq, irq) for irq in range(1, IO_APIC_PINS) if irq != platform.timer_pin]
    return [(0, platform.timer_pin), *pins]


def _processor(apic_id: int) -> bytes:
    flags = _ENABLED | _BOOTSTRAP if apic_id == 0 else _ENABLED
    return struct.pack("<BBBBII8x", _PROCESSOR, apic_id, _APIC_VERSION, flags, _CPU_SIGNATURE, _CPU_FEATURES)


def _table(entries: list[bytes], platform: Platform) -> bytes:
    body = b"".join(entries)
    header = struct.Struct("<4sHBB8s12sIHHIHBB")
    length = header.size + len(body)
    product = (b"STRATO  ", b"MICROVM     ")
    fields = (b"PCMP", length, _REVISION, 0, *product, 0, 0, len(entries), platform.local_apic, 0, 0, 0)
    table = bytearray(header.pack(*fields) + body)
    table[7] = checksum(table)
    return bytes(table)


def _floating_pointer(table: int) -> bytes:
    pointer = bytearray(struct.pack("<4sIBBB5x", b"_MP_", table, 1, _REVISION, 0))
    pointer[10] = checksum(pointer)
    return bytes(pointer)

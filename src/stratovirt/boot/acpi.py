"""ACPI tables of a hardware-reduced machine (ACPI 6.4 §4.1, §5.2).

There is no PIC, no PM timer and no SCI: the guest finds CPUs and the IOAPIC in the MADT, devices in
the DSDT, and the registers to sleep and to reset in the FADT. The power button is a control method
device that a generic event device notifies, as in QEMU's microvm.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from stratovirt.boot import aml, lowmem
from stratovirt.boot.checksum import checksum
from stratovirt.boot.platform import EVENT_POWER_BUTTON, SLEEP_TYPE_S5, Platform, VirtioSlot
from stratovirt.memory import GuestMemory

_OEM = b"STRATO"
_OEM_TABLE = b"MICROVM "
_CREATOR = b"STRV"
_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_CHECKSUM = 9
_ALIGNMENT = 16

_FADT_LENGTH = 276
# FADT flags (ACPI 6.4 table 5.10): WBINVD works, both buttons are control methods or absent, the
# reset register works, no fixed hardware.
_WBINVD = 1 << 0
_PWR_BUTTON = 1 << 4
_SLP_BUTTON = 1 << 5
_RESET_REG_SUP = 1 << 10
_HW_REDUCED_ACPI = 1 << 20
# Boot architecture flags (table 5.11). The 8042 bit stays clear: there is a reset line and no keyboard,
# and Linux would wait for one. The absent VGA is named for the same reason.
_LEGACY_DEVICES = 1 << 0
_VGA_NOT_PRESENT = 1 << 2

_LOCAL_APIC_ENABLED = 1
_ALL_PROCESSORS = 0xFF
# What a power button is notified of (ACPI 6.4 §4.8.2.2.1.2).
_PRESSED = 0x80


def write(
    memory: GuestMemory, apic_ids: Sequence[int], slots: Sequence[VirtioSlot], platform: Platform
) -> int:
    """Write all tables; returns the guest physical address of the RSDP."""
    rsdp = lowmem.ACPI_TABLES
    tables = _Tables(memory, rsdp + 64)
    dsdt_address = tables.add(dsdt(slots, platform))
    listed = [tables.add(fadt(dsdt_address, platform)), tables.add(madt(apic_ids, platform))]
    memory.write(rsdp, _rsdp(tables.add(_table(b"XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed)))))
    return rsdp


class _Tables:
    """Puts tables one behind the other."""

    def __init__(self, memory: GuestMemory, address: int) -> None:
        self._memory = memory
        self._free = address

    def add(self, table: bytes) -> int:
        address = self._free
        self._free += -(-len(table) // _ALIGNMENT) * _ALIGNMENT
        if self._free > lowmem.ACPI_TABLES_END:
            raise ValueError(f"ACPI tables of {self._free - lowmem.ACPI_TABLES} bytes do not fit")
        self._memory.write(address, table)
        return address


def fadt(dsdt_address: int, platform: Platform) -> bytes:
    """Fixed ACPI Description Table, revision 6 (ACPI 6.4 table 5.9)."""
    table = bytearray(_FADT_LENGTH)
    flags = _WBINVD | _PWR_BUTTON | _SLP_BUTTON | _RESET_REG_SUP | _HW_REDUCED_ACPI
    for offset, code, value in (
        (109, "<H", _LEGACY_DEVICES | _VGA_NOT_PRESENT),
        (112, "<I", flags),
        (116, "12s", _port_register(platform.reset_port)),
        (128, "B", platform.reset_value),
        (140, "<Q", dsdt_address),
        (244, "12s", _port_register(platform.sleep_control_port)),
        (256, "12s", _port_register(platform.sleep_status_port)),
    ):
        struct.pack_into(code, table, offset, value)
    return _table(b"FACP", 6, bytes(table[_HEADER.size :]))


def madt(apic_ids: Sequence[int], platform: Platform) -> bytes:
    """Multiple APIC Description Table (ACPI 6.4 §5.2.12): the CPUs' LAPICs by APIC id, and the IOAPIC."""
    body = struct.pack("<II", platform.local_apic, 0)
    for cpu, apic_id in enumerate(apic_ids):
        body += struct.pack("<BBBBI", 0, 8, cpu, apic_id, _LOCAL_APIC_ENABLED)
    body += struct.pack("<BBBBII", 1, 12, 0, 0, platform.io_apic, 0)
    body += struct.pack("<BBBHB", 4, 6, _ALL_PROCESSORS, 0, 1)  # NMI at LINT1, as the MP specification has it
    return _table(b"APIC", 5, body)


def dsdt(slots: Sequence[VirtioSlot], platform: Platform) -> bytes:
    r"""Differentiated System Description Table: the devices in ``\_SB`` and the S5 sleep type."""
    devices = [_virtio(index, slot) for index, slot in enumerate(slots)]
    devices += [_serial(platform), _rtc(platform), _power_button(), _event_device(platform)]
    s5 = aml.package(aml.integer(SLEEP_TYPE_S5), aml.integer(0), aml.integer(0), aml.integer(0))
    return _table(b"DSDT", 2, aml.scope("\\_SB_", *devices) + aml.name("\\_S5_", s5))


def _virtio(index: int, slot: VirtioSlot) -> bytes:
    """A virtio-mmio transport, by the id that Linux's and QEMU's virtio-mmio share."""
    return aml.device(
        f"VR{index:02X}",
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(index)),
        aml.name("_CCA", aml.integer(1)),
        _settings(aml.memory32_fixed(slot.address, slot.size), aml.extended_interrupt(slot.gsi, aml.LEVEL)),
    )


def _serial(platform: Platform) -> bytes:
    """Without this node the console is silent once userspace opens it: its interrupt is not known."""
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(0)),
        _settings(
            aml.io_ports(platform.serial_port, 8), aml.extended_interrupt(platform.serial_gsi, aml.EDGE)
        ),
    )


def _rtc(platform: Platform) -> bytes:
    return aml.device(
        "RTC_",
        aml.name("_HID", aml.eisa_id("PNP0B00")),
        _settings(aml.io_ports(platform.rtc_port, 2), aml.extended_interrupt(platform.rtc_gsi, aml.EDGE)),
    )


def _power_button() -> bytes:
    return aml.device("PWRB", aml.name("_HID", aml.eisa_id("PNP0C0C")), aml.name("_UID", aml.integer(0)))


def _event_device(platform: Platform) -> bytes:
    """A generic event device (ACPI 6.4 §5.6.9): reads what happened, once, and notifies whom it concerns."""
    press = aml.notify("PWRB", _PRESSED)
    return aml.device(
        "GED_",
        aml.name("_HID", aml.string("ACPI0013")),
        aml.name("_UID", aml.integer(0)),
        _settings(aml.extended_interrupt(platform.event_gsi, aml.LEVEL)),
        aml.system_memory("EREG", platform.event_address, 4),
        aml.dword_field("EREG", "ESEL"),
        aml.method(
            "_EVT",
            1,
            aml.store(aml.reference("ESEL"), aml.LOCAL_0),
            aml.if_bits(aml.LOCAL_0, EVENT_POWER_BUTTON, press),
        ),
    )


def _settings(*descriptors: bytes) -> bytes:
    return aml.name("_CRS", aml.resources(*descriptors))


def _port_register(port: int) -> bytes:
    """Generic Address Structure (ACPI 6.4 §5.2.3.2) of an 8-bit I/O port."""
    system_io, bits, offset, byte_access = 1, 8, 0, 1
    return struct.pack("<BBBBQ", system_io, bits, offset, byte_access, port)


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    length = _HEADER.size + len(body)
    header = _HEADER.pack(signature, length, revision, 0, _OEM, _OEM_TABLE, 1, _CREATOR, 1)
    table = bytearray(header + body)
    table[_CHECKSUM] = checksum(table)
    return bytes(table)


def _rsdp(xsdt: int) -> bytes:
    """Root System Description Pointer, revision 2 (ACPI 6.4 table 5.3): checksums of 20 bytes and of all."""
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM, 2, 0, 36, xsdt, 0))
    rsdp[8] = checksum(rsdp[:20])
    rsdp[32] = checksum(rsdp)
    return bytes(rsdp)

"""The registers of a local APIC: offsets, writable bits, values out of reset.

The law: numbers and their sources, no behaviour.

Source: Intel SDM vol. 3A, table 11-1 "Local APIC Register Address Map"; sections as given.
"""

from __future__ import annotations

import enum

from stratovirt.accel.tcg.irqchip.apic_bus import Delivery

VERSION = 0x14 | 5 << 16
"""Integrated APIC, six LVT entries, no suppression of EOI broadcasts (11.4.8)."""

MASKED = 1 << 16
SOFTWARE_ENABLE = 1 << 8
SPURIOUS_WRITABLE = 0x3FF
ICR_WRITABLE = 0x000C_CFFF


class Register(enum.IntEnum):
    """Offsets from the APIC base (table 11-1). Bitmaps of 256 bits take eight registers each."""

    ID = 0x20
    VERSION = 0x30
    TASK_PRIORITY = 0x80
    ARBITRATION_PRIORITY = 0x90
    PROCESSOR_PRIORITY = 0xA0
    END_OF_INTERRUPT = 0xB0
    REMOTE_READ = 0xC0
    LOGICAL_DESTINATION = 0xD0
    DESTINATION_FORMAT = 0xE0
    SPURIOUS_VECTOR = 0xF0
    IN_SERVICE = 0x100
    TRIGGER_MODE = 0x180
    INTERRUPT_REQUEST = 0x200
    ERROR_STATUS = 0x280
    COMMAND_LOW = 0x300
    COMMAND_HIGH = 0x310
    LVT_TIMER = 0x320
    LVT_THERMAL = 0x330
    LVT_PERFORMANCE = 0x340
    LVT_LINT0 = 0x350
    LVT_LINT1 = 0x360
    LVT_ERROR = 0x370
    INITIAL_COUNT = 0x380
    CURRENT_COUNT = 0x390
    DIVIDE_CONFIGURATION = 0x3E0


class ApicError(enum.IntFlag):
    """Bits of the error status register (11.5.3)."""

    SEND_ILLEGAL_VECTOR = 1 << 5
    RECEIVE_ILLEGAL_VECTOR = 1 << 6
    ILLEGAL_REGISTER = 1 << 7


LVT_WRITABLE = {
    Register.LVT_TIMER: 0x700FF,
    Register.LVT_THERMAL: 0x107FF,
    Register.LVT_PERFORMANCE: 0x107FF,
    Register.LVT_LINT0: 0x1A7FF,
    Register.LVT_LINT1: 0x1A7FF,
    Register.LVT_ERROR: 0x100FF,
}
"""Bits that software may set (11.5.1); delivery status and remote IRR read 0."""

VIRTUAL_WIRE = Delivery.EXTINT << 8
"""LINT0 of CPU 0 out of reset: no firmware sets up virtual wire mode here (KVM and QEMU do the same)."""

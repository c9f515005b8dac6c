"""The I/O APIC: 24 pins, each with a redirection entry.

The law: a level-triggered pin has at most one interrupt on its way (remote IRR) and fires again at the EOI
for as long as its line is high; an edge on a masked pin is lost.

Source: Intel 82093AA data sheet, section 3 "Register Description"; the EOI register is that of version 0x20
parts (ICH "APIC EOI Register").
"""

from __future__ import annotations

from typing import Any

from stratovirt.accel.tcg.irqchip.apic_bus import ApicBus
from stratovirt.vmstate import load_fields, save_fields

PINS = 24
VERSION = 0x20 | (PINS - 1) << 16
"""3.2.2. Version 0x20 says that there is an EOI register."""

SELECT, WINDOW, END_OF_INTERRUPT = 0x00, 0x10, 0x40
"""Offsets of the three registers in memory (3.1)."""

ID_INDEX, VERSION_INDEX, ARBITRATION_INDEX, FIRST_ENTRY_INDEX = 0, 1, 2, 0x10
ID_WRITABLE = 0x0F00_0000

LOGICAL = 1 << 11
REMOTE_IRR = 1 << 14
LEVEL = 1 << 15
MASKED = 1 << 16
ENTRY_WRITABLE = 0xFF00_0000_0001_AFFF
"""3.2.4: all defined bits but delivery status (never seen set) and remote IRR."""


_FIELDS = ("_lines", "_select", "_id", "_entries", "_remote_irr")


class IoApic:
    """Redirects lines to local APICs. Levels mean asserted or not: the polarity bits are only stored."""

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        self._lines = 0
        self.reset()

    def reset(self) -> None:
        """All pins masked. The levels of the lines are not ours to change."""
        self._select = 0
        self._id = 0
        self._entries = [MASKED] * PINS
        self._remote_irr = 0

    def save(self) -> dict[str, Any]:
        """State as plain values, the levels of the lines among them."""
        return save_fields(self, _FIELDS)

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave; nothing fires that had not."""
        load_fields(self, _FIELDS, state)

    def set_line(self, pin: int, level: bool) -> None:
        """Drive ``pin``: a rise fires an edge-triggered entry, the level itself a level-triggered one."""
        bit = 1 << pin
        rising = level and not self._lines & bit
        self._lines = self._lines | bit if level else self._lines & ~bit
        if rising:
            self._fire(pin)

    def end_of_interrupt(self, vector: int) -> None:
        """A CPU, or the EOI register, ended the level interrupts of ``vector`` (3.2.4, remote IRR)."""
        waiting = self._remote_irr
        while waiting:
            bit = waiting & -waiting
            waiting ^= bit
            pin = bit.bit_length() - 1
            if self._entries[pin] & 0xFF == vector:
                self._remote_irr ^= bit
                self._fire_if_high(pin)

    def read(self, offset: int) -> int:
        """The register at ``offset`` in memory; 0 for others."""
        if offset == SELECT:
            return self._select
        return self._read_indexed() if offset == WINDOW else 0

    def write(self, offset: int, value: int) -> None:
        """Write the register at ``offset`` in memory; others are dropped."""
        if offset == SELECT:
            self._select = value & 0xFF
        elif offset == WINDOW:
            self._write_indexed(value & 0xFFFF_FFFF)
        elif offset == END_OF_INTERRUPT:
            self.end_of_interrupt(value & 0xFF)

    def _read_indexed(self) -> int:
        if self._select in (ID_INDEX, ARBITRATION_INDEX):
            return self._id
        if self._select == VERSION_INDEX:
            return VERSION
        pin, high = divmod(self._select - FIRST_ENTRY_INDEX, 2)
        if not 0 <= pin < PINS:
            return 0
        remote_irr = REMOTE_IRR if self._remote_irr >> pin & 1 else 0
        return (self._entries[pin] | remote_irr) >> 32 * high & 0xFFFF_FFFF

    def _write_indexed(self, value: int) -> None:
        if self._select == ID_INDEX:
            self._id = value & ID_WRITABLE
        pin, high = divmod(self._select - FIRST_ENTRY_INDEX, 2)
        if 0 <= pin < PINS:
            self._write_entry(pin, high, value)

    def _write_entry(self, pin: int, high: int, value: int) -> None:
        other_half = 0xFFFF_FFFF << 32 * (1 - high)
        entry = (self._entries[pin] & other_half | value << 32 * high) & ENTRY_WRITABLE
        self._entries[pin] = entry
        if not entry & LEVEL:
            self._remote_irr &= ~(1 << pin)  # Linux's way to end an interrupt (__eoi_ioapic_pin)
        self._fire_if_high(pin)

    def _fire_if_high(self, pin: int) -> None:
        if self._entries[pin] & LEVEL and self._lines >> pin & 1:
            self._fire(pin)

    def _fire(self, pin: int) -> None:
        """Send the pin's message. Remote IRR needs somebody who will end it (KVM's ``ioapic_service``)."""
        entry = self._entries[pin]
        bit = 1 << pin
        if entry & MASKED or self._remote_irr & bit:
            return
        level = bool(entry & LEVEL)
        targets = self._bus.targets(entry >> 56, logical=bool(entry & LOGICAL))
        accepted = self._bus.deliver(targets, entry >> 8 & 7, entry & 0xFF, level=level)
        if level and accepted:
            self._remote_irr |= bit

"""One counter of an 8254.

The law: no tick is ever counted. A counter is a count and the instant it started; its value and its output
are functions of guest time, in ns. The clock pulse that loads the counter is not modelled and a new count
starts at once, as in QEMU's and KVM's i8254.

Source: Intel 8254 data sheet (231164), "Programming the 8254", "Read Operations", "Mode Definitions".
"""

from __future__ import annotations

import enum
from typing import Any

from stratovirt.accel.tcg.irqchip.schedule import MIN_PERIOD_NS, NS_PER_SECOND
from stratovirt.vmstate import load_fields, save_fields

PIT_HZ = 1_193_182
MAX_COUNT = 0x10000
"""What a count of 0 stands for."""


class Mode(enum.IntEnum):
    """Control word bits 3:1; 6 and 7 mean 2 and 3."""

    TERMINAL_COUNT = 0
    ONE_SHOT = 1
    RATE_GENERATOR = 2
    SQUARE_WAVE = 3
    SOFTWARE_STROBE = 4
    HARDWARE_STROBE = 5


PERIODIC = frozenset({Mode.RATE_GENERATOR, Mode.SQUARE_WAVE})
TRIGGERED = frozenset({Mode.ONE_SHOT, Mode.HARDWARE_STROBE})
"""Modes in which a rise of the gate starts the countdown, not the write of a count."""


class Access(enum.IntEnum):
    """Control word bits 5:4: which bytes of the count are read and written."""

    LATCH = 0
    LOW = 1
    HIGH = 2
    BOTH = 3


def ticks_in(ns: int) -> int:
    """Whole ticks of the 8254's clock in ``ns`` nanoseconds."""
    return ns * PIT_HZ // NS_PER_SECOND


def ns_of(ticks: int) -> int:
    """Nanoseconds until ``ticks`` have passed, rounded up."""
    return -(-ticks * NS_PER_SECOND // PIT_HZ)


MIN_PERIOD = ticks_in(MIN_PERIOD_NS)


_FIELDS = (
    *("_gate", "_control", "_count", "_null_count", "_origin", "_held"),
    *("_low_byte", "_read_high", "_latched", "_latched_status"),
)


class Counter:
    """A counter whose gate is high at first. BCD is stored and reported but counts in binary, as in QEMU."""

    def __init__(self) -> None:
        self._gate = True
        self.program(Access.BOTH << 4)

    def program(self, control: int) -> None:
        """Control word, bits 5:0: the counter stops until a count is written."""
        self._control = control & 0x3F
        selected = control >> 1 & 7
        self._mode = Mode(selected & 3 if selected > Mode.HARDWARE_STROBE else selected)
        self._access = Access(control >> 4 & 3)
        self._count = MAX_COUNT
        self._null_count = True
        self._origin: int | None = None
        self._held = 0
        self._low_byte: int | None = None
        self._read_high = False
        self._latched: list[int] = []
        self._latched_status: int | None = None

    def save(self) -> dict[str, Any]:
        """State as plain values."""
        return save_fields(self, _FIELDS)

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave."""
        self.program(state["control"])
        load_fields(self, _FIELDS, state)

    def write(self, value: int, now: int) -> None:
        """One byte of a count; the last one loads it."""
        if self._access == Access.LOW:
            self._load(value, now)
        elif self._access == Access.HIGH:
            self._load(value << 8, now)
        elif self._low_byte is None:
            self._low_byte = value
            if self._mode == Mode.TERMINAL_COUNT:
                self._origin = None  # "Mode 0": writing the first byte disables counting
        else:
            self._load(self._low_byte | value << 8, now)
            self._low_byte = None

    def read(self, now: int) -> int:
        """Latched status, latched count, or the count as it runs; one byte."""
        if self._latched_status is not None:
            status, self._latched_status = self._latched_status, None
            return status
        if self._latched:
            return self._latched.pop(0)
        running = self._bytes(now)
        if self._access != Access.BOTH:
            return running[0]
        self._read_high = not self._read_high
        return running[not self._read_high]

    def latch_count(self, now: int) -> None:
        """Counter latch command; ignored while an earlier one has not been read."""
        self._latched = self._latched or self._bytes(now)

    def latch_status(self, now: int) -> None:
        """Read-back command: output, null count, control word; ignored as above."""
        if self._latched_status is None:
            self._latched_status = self.output(now) << 7 | self._null_count << 6 | self._control

    def set_gate(self, gate: bool, now: int) -> None:
        """Table "Gate Pin Operations": pause in modes 0 and 4, restart in 2 and 3, trigger in 1 and 5."""
        if gate == self._gate:
            return
        if not gate:
            self._held = self._elapsed(now)
        elif self._mode in TRIGGERED:
            self._origin = None if self._null_count else now
        elif self._origin is not None:
            self._origin = now if self._mode in PERIODIC else now - ns_of(self._held)
        self._gate = gate

    def output(self, now: int) -> bool:
        """Level of OUT."""
        if self._origin is None:
            return self._mode != Mode.TERMINAL_COUNT
        elapsed = self._elapsed(now)
        if self._mode in (Mode.TERMINAL_COUNT, Mode.ONE_SHOT):
            return elapsed >= self._count
        if self._mode in PERIODIC and not self._gate:
            return True
        if self._mode == Mode.RATE_GENERATOR:
            return elapsed % self._count != self._count - 1
        if self._mode == Mode.SQUARE_WAVE:
            return elapsed % self._count < (self._count + 1) // 2
        return elapsed != self._count

    def next_rise(self, now: int) -> int | None:
        """When OUT rises next after ``now``, with the gate high; None for never.

        Rises that follow each other faster than :data:`MIN_PERIOD` are thinned out.
        """
        if self._origin is None:
            return None
        elapsed = self._elapsed(now)
        if self._mode in PERIODIC:
            interval = self._count * -(-MIN_PERIOD // self._count)
            return self._origin + ns_of((elapsed // interval + 1) * interval)
        rise = self._count + (self._mode in (Mode.SOFTWARE_STROBE, Mode.HARDWARE_STROBE))
        return self._origin + ns_of(rise) if elapsed < rise else None

    def _load(self, count: int, now: int) -> None:
        self._count = count or MAX_COUNT
        self._null_count = False
        self._held = 0
        self._origin = None if self._mode in TRIGGERED else now

    def _elapsed(self, now: int) -> int:
        """Ticks counted so far; a low gate stops all modes but the triggered ones."""
        if self._origin is None:
            return 0
        if not self._gate and self._mode not in TRIGGERED:
            return self._held
        return ticks_in(now - self._origin)

    def _value(self, now: int) -> int:
        elapsed = self._elapsed(now)
        if self._mode == Mode.SQUARE_WAVE:
            elapsed = 2 * elapsed  # counts by two, twice per period
        if self._mode in PERIODIC:
            elapsed %= self._count
        return self._count - elapsed & 0xFFFF

    def _bytes(self, now: int) -> list[int]:
        low_high = list(self._value(now).to_bytes(2, "little"))
        return {Access.LOW: low_high[:1], Access.HIGH: low_high[1:]}.get(self._access, low_high)

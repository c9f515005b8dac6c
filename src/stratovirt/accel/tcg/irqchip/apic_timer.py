"""The timer of a local APIC: one-shot, periodic and TSC-deadline mode.

The law: no tick is ever counted. A countdown is its start and its length in guest time; the current count is
computed when it is read, and the schedule knows the one instant at which something happens.

Source: Intel SDM vol. 3A, section "APIC Timer" (11.5.4), "TSC-Deadline Mode" (11.5.4.1).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from stratovirt.accel.tcg.irqchip.contract import GuestClock
from stratovirt.accel.tcg.irqchip.schedule import MIN_PERIOD_NS, NS_PER_SECOND, Schedule
from stratovirt.vmstate import load_fields, save_fields

LAPIC_TIMER_HZ = NS_PER_SECOND
"""Input clock before the divider: 1 GHz, a tick a nanosecond, as in KVM (``APIC_BUS_CYCLE_NS`` 1) and QEMU.
CPUID 0x15 ECX, where present, must say the same: Linux takes the crystal clock for the APIC timer's."""


class TimerMode(enum.IntEnum):
    """LVT timer register, bits 18:17."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2
    RESERVED = 3


_FIELDS = ("divide_configuration", "tsc_deadline", "initial_count", "_divisor", "_counting", "_start")


class ApicTimer:
    """One countdown or deadline.

    :param fire: raises the timer's interrupt through its LVT entry.
    """

    def __init__(self, clock: GuestClock, schedule: Schedule, fire: Callable[[], None]) -> None:
        self._clock = clock
        self._start = 0
        self._schedule = schedule
        self._fire = fire
        self.reset()

    def reset(self) -> None:
        """Stopped, one-shot, divide by 2."""
        self.mode = TimerMode.ONE_SHOT
        self.divide_configuration = 0
        self.tsc_deadline = 0
        self._divisor = 2
        self._stop()

    def save(self) -> dict[str, Any]:
        """State as plain values."""
        fields = save_fields(self, _FIELDS)
        return fields | {"mode": int(self.mode), "deadline": self._schedule.deadline(self)}

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave."""
        load_fields(self, _FIELDS, state)
        self.mode = TimerMode(state["mode"])
        self._schedule.put(self, state["deadline"])

    def set_mode(self, mode: TimerMode) -> None:
        """Change the mode; to or from TSC-deadline this disarms (11.5.4.1)."""
        if mode != self.mode and TimerMode.TSC_DEADLINE in (mode, self.mode):
            self.tsc_deadline = 0
            self._stop()
        self.mode = mode

    def write_divide(self, value: int) -> None:
        """Divide configuration: bits 3, 1, 0 select 2, 4 … 128, 1. A count goes on from where it is."""
        self.divide_configuration = value & 0b1011
        before = self._divisor
        self._divisor = 1 << ((value & 3 | value >> 1 & 4) + 1 & 7)
        if self._counting:
            now = self._clock.now_ns()
            self._start = now - (now - self._start) // before * self._divisor
            self._schedule.arm(self, self._start + self._interval())

    def write_initial_count(self, value: int) -> None:
        """Start a countdown; 0 stops. Ignored in TSC-deadline mode."""
        if self.mode == TimerMode.TSC_DEADLINE:
            return
        if not value:
            self._stop()
            return
        self.initial_count = value
        self._counting = True
        self._start = self._clock.now_ns()
        self._schedule.arm(self, self._start + self._interval())

    def current_count(self) -> int:
        """Current count register: 0 once a one-shot is over, and in TSC-deadline mode."""
        if not self._counting:
            return 0
        elapsed = (self._clock.now_ns() - self._start) // self._divisor
        if self.mode == TimerMode.PERIODIC:
            elapsed %= self.initial_count
        return max(0, self.initial_count - elapsed)

    def write_tsc_deadline(self, value: int) -> None:
        """IA32_TSC_DEADLINE: expire when the TSC reaches ``value``; 0 disarms. Ignored in the other modes."""
        if self.mode != TimerMode.TSC_DEADLINE:
            return
        self.tsc_deadline = value
        if not value:
            self._schedule.disarm(self)
            return
        clock = self._clock
        ticks = max(0, value - clock.tsc())
        self._schedule.arm(self, clock.now_ns() + -(-ticks * NS_PER_SECOND // clock.tsc_hz))

    def expire(self, now: int) -> None:
        """Raise the interrupt. Missed periodic ticks are skipped, as in QEMU's ``apic_next_timer``."""
        if self._counting and self.mode == TimerMode.PERIODIC:
            interval = self._interval()
            self._start = now - (now - self._start) % interval
            self._schedule.arm(self, self._start + interval)
        else:
            self.tsc_deadline = 0
            self._counting = False
            self._schedule.disarm(self)
        self._fire()

    def _stop(self) -> None:
        self.initial_count = 0
        self._counting = False
        self._start = 0
        self._schedule.disarm(self)

    def _interval(self) -> int:
        """Guest ns from the start of a countdown to its interrupt."""
        length = self.initial_count * self._divisor
        return max(length, MIN_PERIOD_NS) if self.mode == TimerMode.PERIODIC else length

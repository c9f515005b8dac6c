"""The 8254 programmable interval timer, and port 0x61 which gates and shows its channel 2.

The law: channel 0 is the only counter that acts by itself; the schedule knows the one instant at which its
output rises next. Ticks that were missed are skipped.

Source: Intel 8254 data sheet (231164), "Control Word Format", "Read-Back Command"; port 0x61 from the 82371SB
(PIIX3) data sheet, "NMI Status and Control Register".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stratovirt.accel.tcg.irqchip.contract import GuestClock
from stratovirt.accel.tcg.irqchip.pit_counter import Access, Counter
from stratovirt.accel.tcg.irqchip.schedule import Schedule

CHANNEL_PORTS = (0x40, 0x41, 0x42)
CONTROL_PORT = 0x43
SYSTEM_PORT = 0x61

READ_BACK = 3
SPEAKER = 2
"""Channel whose gate and output are bits of port 0x61."""

REFRESH_TOGGLE_NS = 15_085
"""Port 0x61 bit 4 follows the memory refresh, whose period is twice this."""


class Pit:
    """Three counters.

    :param tick: called at each rise of channel 0's output.
    """

    def __init__(self, clock: GuestClock, schedule: Schedule, tick: Callable[[], None]) -> None:
        self._clock = clock
        self._schedule = schedule
        self._tick = tick
        self.reset()

    def reset(self) -> None:
        """Nothing counts; channel 2's gate is low."""
        self._counters = (Counter(), Counter(), Counter())
        self._write_system(0)
        self._rearm()

    def read(self, port: int) -> int:
        """Ports 0x40–0x43 and 0x61; the control port is write-only and reads all ones."""
        if port == SYSTEM_PORT:
            return self._read_system()
        if port == CONTROL_PORT:
            return 0xFF
        return self._counters[port - CHANNEL_PORTS[0]].read(self._clock.now_ns())

    def write(self, port: int, value: int) -> None:
        """The same ports."""
        if port == SYSTEM_PORT:
            self._write_system(value)
        elif port == CONTROL_PORT:
            self._write_control(value)
        else:
            self._counters[port - CHANNEL_PORTS[0]].write(value, self._clock.now_ns())
            self._rearm()

    def expire(self, now: int) -> None:
        """Channel 0's output has risen."""
        self._rearm(now)
        self._tick()

    def save(self) -> dict[str, Any]:
        """State as plain values."""
        return {
            "system": self._system,
            "deadline": self._schedule.deadline(self),
            "counters": [counter.save() for counter in self._counters],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave."""
        self._system = int(state["system"])
        for counter, saved in zip(self._counters, state["counters"], strict=True):
            counter.load(saved)
        self._schedule.put(self, state["deadline"])

    def _rearm(self, now: int | None = None) -> None:
        now = self._clock.now_ns() if now is None else now
        self._schedule.put(self, self._counters[0].next_rise(now))

    def _write_control(self, value: int) -> None:
        channel = value >> 6 & 3
        if channel == READ_BACK:
            self._read_back(value)
        elif value >> 4 & 3 == Access.LATCH:
            self._counters[channel].latch_count(self._clock.now_ns())
        else:
            self._counters[channel].program(value)
            self._rearm()

    def _read_back(self, value: int) -> None:
        """Bits 3:1 choose channels; bit 5 clear latches counts, bit 4 clear latches status."""
        now = self._clock.now_ns()
        for channel, counter in enumerate(self._counters):
            if value >> 1 + channel & 1:
                if not value & 0x20:
                    counter.latch_count(now)
                if not value & 0x10:
                    counter.latch_status(now)

    def _read_system(self) -> int:
        now = self._clock.now_ns()
        refresh = now // REFRESH_TOGGLE_NS & 1
        return self._system | refresh << 4 | self._counters[SPEAKER].output(now) << 5

    def _write_system(self, value: int) -> None:
        """Bit 0 is channel 2's gate; the speaker (bit 1) and the NMI masks (2, 3) are only stored."""
        self._system = value & 0x0F
        self._counters[SPEAKER].set_gate(bool(value & 1), self._clock.now_ns())

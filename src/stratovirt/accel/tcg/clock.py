"""Guest time of one machine, as its interrupt controllers see it."""

from __future__ import annotations

from typing import Any

from stratovirt.accel.tcg.library import lib


class Clock:
    """The guest's TSC, and nanoseconds derived from it; both stand still while the machine is frozen."""

    def __init__(self, machine: Any, tsc_hz: int) -> None:
        self._machine = machine
        self.tsc_hz = tsc_hz

    def now_ns(self) -> int:
        """Guest nanoseconds since power-on."""
        return int(lib.tcg_nanoseconds(self._machine))

    def tsc(self) -> int:
        """The time stamp counter that all vCPUs share."""
        return int(lib.tcg_tsc(self._machine))

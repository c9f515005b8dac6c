"""The real-time clock: a Motorola MC146818 at ports 0x70 and 0x71, showing the host's UTC.

Source: MC146818 data sheet. Setting the time shifts the guest's clock against the host's; alarms and
periodic interrupts are not offered (Linux uses its timers for those).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D = 10, 11, 12, 13
CENTURY = 0x32  # the FADT names it; the place PCs have used since the PS/2

A_DIVIDER_32KHZ = 0x26
B_24_HOURS, B_BINARY, B_SET = 0x02, 0x04, 0x80
D_VALID = 0x80
CMOS_SIZE = 128
TIME_REGISTERS = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)


def to_bcd(value: int) -> int:
    """``59`` → ``0x59``."""
    return value // 10 << 4 | value % 10


def from_bcd(value: int) -> int:
    """``0x59`` → ``59``; digits above 9 count as they stand."""
    return (value >> 4) * 10 + (value & 0x0F)


class Rtc:
    """Index port at offset 0, data port at offset 1.

    :param now: seconds since the epoch, UTC.
    """

    state_version = 1

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._offset = 0.0
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Registers to their power-on values; the clock itself runs on, as its battery lets it."""
        self._index = 0
        self._cmos = bytearray(CMOS_SIZE)
        self._cmos[REGISTER_A] = A_DIVIDER_32KHZ
        self._cmos[REGISTER_B] = B_24_HOURS

    def save(self) -> dict[str, Any]:
        """See :class:`stratovirt.vmstate.Saved`. The time is the host's, plus what the guest has set."""
        return {"index": self._index, "offset": self._offset, "cmos": bytes(self._cmos)}

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """See :class:`stratovirt.vmstate.Saved`."""
        if len(state["cmos"]) != CMOS_SIZE:
            raise ValueError(f"{len(state['cmos'])} bytes of CMOS")
        self._index, self._offset = state["index"] % CMOS_SIZE, state["offset"]
        self._cmos = bytearray(state["cmos"])

    def pio_read(self, offset: int, _size: int) -> int:
        """The register that the index selects; the index port itself reads all ones."""
        if offset == 0:
            return 0xFF
        with self._lock:
            if self._index in TIME_REGISTERS and not self._cmos[REGISTER_B] & B_SET:
                return self._clock()[self._index]
            return D_VALID if self._index == REGISTER_D else self._cmos[self._index]

    def pio_write(self, offset: int, _size: int, value: int) -> None:
        """Select a register, or write the one that is selected."""
        with self._lock:
            if offset == 0:
                self._index = value % CMOS_SIZE
            else:
                self._write(self._index, value & 0xFF)

    def _write(self, index: int, value: int) -> None:
        if index == REGISTER_B:
            self._write_control(value)
        elif index in TIME_REGISTERS and not self._cmos[REGISTER_B] & B_SET:
            self._load_clock()
            self._cmos[index] = value
            self._set_clock()
        elif index not in (REGISTER_C, REGISTER_D):
            self._cmos[index] = value

    def _write_control(self, value: int) -> None:
        setting = self._cmos[REGISTER_B] & B_SET
        if value & B_SET and not setting:
            self._load_clock()
        self._cmos[REGISTER_B] = value
        if setting and not value & B_SET:
            self._set_clock()

    def _load_clock(self) -> None:
        for index, value in self._clock().items():
            self._cmos[index] = value

    def _clock(self) -> dict[int, int]:
        """The time registers at this moment, coded as register B says."""
        moment = datetime.fromtimestamp(self._now() + self._offset, UTC)
        values = {
            SECONDS: moment.second,
            MINUTES: moment.minute,
            WEEKDAY: moment.isoweekday() % 7 + 1,  # 1 is Sunday
            DAY: moment.day,
            MONTH: moment.month,
            YEAR: moment.year % 100,
            CENTURY: moment.year // 100,
        }
        code = int if self._cmos[REGISTER_B] & B_BINARY else to_bcd
        coded = {index: code(value) for index, value in values.items()}
        coded[HOURS] = self._code_hour(moment.hour)
        return coded

    def _code_hour(self, hour: int) -> int:
        code = int if self._cmos[REGISTER_B] & B_BINARY else to_bcd
        if self._cmos[REGISTER_B] & B_24_HOURS:
            return code(hour)
        return code((hour - 1) % 12 + 1) | (0x80 if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        decode = int if self._cmos[REGISTER_B] & B_BINARY else from_bcd
        if self._cmos[REGISTER_B] & B_24_HOURS:
            return decode(value)
        return decode(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _set_clock(self) -> None:
        """Take the time registers for the time from now on; a date that does not exist is ignored."""
        decode = int if self._cmos[REGISTER_B] & B_BINARY else from_bcd
        year = decode(self._cmos[CENTURY]) * 100 + decode(self._cmos[YEAR])
        try:
            start = datetime(year, decode(self._cmos[MONTH]), decode(self._cmos[DAY]), tzinfo=UTC)
            wanted = start + timedelta(
                hours=self._decode_hour(self._cmos[HOURS]),
                minutes=decode(self._cmos[MINUTES]),
                seconds=decode(self._cmos[SECONDS]),
            )
        except (ValueError, OverflowError):
            return
        self._offset = wanted.timestamp() - self._now()

"""Fakes for what surrounds a device."""

from __future__ import annotations

from collections import deque


class FakeIrq:
    """An interrupt line that remembers how it was driven."""

    def __init__(self) -> None:
        self.level = False
        self.rises = 0

    def set_level(self, level: bool) -> None:
        self.rises += level and not self.level
        self.level = level


class FakePeer:
    """The host's end of a serial line, with room for ``limit`` bytes."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.limit = limit
        self.sent = bytearray()
        self.waiting: deque[int] = deque()

    def put(self, byte: int) -> None:
        self.sent.append(byte)

    def room(self) -> bool:
        return len(self.sent) < self.limit

    def take(self) -> int | None:
        return self.waiting.popleft() if self.waiting else None


class FakeSwitch:
    """A power switch that notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def reset(self) -> None:
        self.asked.append("reset")

    def power_off(self) -> None:
        self.asked.append("power off")

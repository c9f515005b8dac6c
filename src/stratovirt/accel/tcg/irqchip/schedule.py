"""When guest timers expire.

The law: the earliest deadline is kept ready in :attr:`Schedule.next`, so that the engine reads it without a
lock before each slice; arming a timer pays for it. All times are guest nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

NS_PER_SECOND = 1_000_000_000

MIN_PERIOD_NS = 200_000
"""Shortest interval of periodic interrupts that a guest gets: KVM's ``min_timer_period_us``."""


class Timer(Protocol):
    """Something that expires."""

    def expire(self, now: int) -> None:
        """The deadline has passed: act, then arm for a time after ``now``, or disarm."""


class Schedule:
    """The armed timers of one chip.

    :param earlier: called when :attr:`next` has become earlier.
    """

    def __init__(self, earlier: Callable[[], None]) -> None:
        self._earlier = earlier
        self._deadlines: dict[Timer, int] = {}
        self.next: int | None = None

    def arm(self, timer: Timer, deadline: int) -> None:
        """Let ``timer`` expire at ``deadline``, and not when it was to before."""
        self._deadlines[timer] = deadline
        before = self.next
        self.next = min(self._deadlines.values())
        if before is None or self.next < before:
            self._earlier()

    def disarm(self, timer: Timer) -> None:
        """``timer`` does not expire; harmless when it is not armed."""
        if self._deadlines.pop(timer, None) is not None:
            self.next = min(self._deadlines.values(), default=None)

    def deadline(self, timer: Timer) -> int | None:
        """When ``timer`` expires; None while it is not armed."""
        return self._deadlines.get(timer)

    def put(self, timer: Timer, deadline: int | None) -> None:
        """Arm ``timer``, or disarm it for None."""
        if deadline is None:
            self.disarm(timer)
        else:
            self.arm(timer, deadline)

    def expire(self, now: int) -> None:
        """Let every timer that is due at ``now`` act, the earliest first."""
        due = [(deadline, timer) for timer, deadline in self._deadlines.items() if deadline <= now]
        for _, timer in sorted(due, key=lambda entry: entry[0]):
            timer.expire(now)

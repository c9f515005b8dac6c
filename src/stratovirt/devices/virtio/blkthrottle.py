"""Requests per second: how many a disk may carry out (``throttling.iops-total``).

A leaky bucket, as QEMU's (util/throttle.c): each request pours one in, what leaks out is the allowed rate,
and a tenth of a second's worth fits in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_SECONDS = 0.1


class Throttle:
    """Tells when the next request may begin.

    :param rate: requests per second.
    :param clock: seconds that go by evenly.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._room = max(BURST_SECONDS - self._interval, 0)
        self._clock = clock
        self._empty_at = 0.0

    def wait(self) -> float:
        """Seconds until the next request may begin; 0: now."""
        return max(0.0, self._empty_at - self._room - self._clock())

    def take(self) -> None:
        """A request begins."""
        self._empty_at = max(self._empty_at, self._clock()) + self._interval

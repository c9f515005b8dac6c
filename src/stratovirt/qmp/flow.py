"""Flow control: how many commands one client may send (the manual's "leak bucket").

The law: a clock is passed in and never read here; a token is spent exactly once.
"""

from __future__ import annotations

import enum

# StratoVirt's limits, per connection: 100 a second sustained, 100 at once.
RATE = 100
CAPACITY = 100


class Throttle(enum.Enum):
    """What happens to a command that comes too early; the values are those of ``-qmp …,throttle=``."""

    DELAY = "delay"  # it waits, and its client with it: nothing is lost, the order is kept
    REJECT = "reject"  # it is answered with an error


class TokenBucket:
    """One client's tokens: starts full, refills at ``RATE`` per second up to ``CAPACITY``.

    :param now: seconds on the clock that later calls use.
    """

    def __init__(self, now: float) -> None:
        self._level = float(CAPACITY)
        self._at = now

    def take(self, now: float) -> bool:
        """Spend a token if there is one."""
        self._refill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def reserve(self, now: float) -> float:
        """Spend a token that may still have to come; seconds until it is there."""
        self._refill(now)
        self._level -= 1
        return max(0.0, -self._level / RATE)

    def _refill(self, now: float) -> None:
        self._level = min(CAPACITY, self._level + (now - self._at) * RATE)
        self._at = now

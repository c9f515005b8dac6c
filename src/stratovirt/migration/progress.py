"""How far a snapshot is, and whether it is still wanted: shared by its writer and everybody who asks.

The law: one thread advances it, any thread reads it or cancels; each field is written in one step.
"""

from __future__ import annotations

import time

from stratovirt.errors import SnapshotCancelled


class Progress:
    """Of one snapshot, from now on.

    :param total: bytes of guest RAM.
    :ivar remaining: bytes of guest RAM that were not looked at yet.
    :ivar transferred: bytes written; less than was looked at, for zero pages are not.
    :ivar started: when this object was made, ``ended`` when the snapshot was complete or had failed, None
        until then: by the monotonic clock, in seconds.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.remaining = total
        self.transferred = 0
        self.cancelled = False
        self.started = time.monotonic()
        self.ended: float | None = None

    @property
    def total_time(self) -> int:
        """Milliseconds that it has taken, so far or in all."""
        ended = time.monotonic() if self.ended is None else self.ended
        return int((ended - self.started) * 1000)

    def advance(self, seen: int, written: int) -> None:
        """So many more bytes were looked at, and so many of them written."""
        self.transferred += written
        self.remaining -= seen

    def cancel(self) -> None:
        """Ask the writer to stop; it does so within a few MiB."""
        self.cancelled = True

    def check(self) -> None:
        """Called by the writer every few MiB.

        :raises SnapshotCancelled: it was asked to stop.
        """
        if self.cancelled:
            raise SnapshotCancelled("the snapshot was cancelled")

    def end(self) -> None:
        """Stop the clock."""
        self.ended = time.monotonic()

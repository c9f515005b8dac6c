"""How much of its memory the guest has, and how that is changed while it runs.

The law: what is asked for is the host's wish; what the guest has is what the guest says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class GuestStatistics(NamedTuple):
    """What the guest said of its memory.

    :ivar time: when, in seconds since the epoch.
    :ivar values: in bytes, or counts; QEMU's names without ``stat-``: ``free-memory``, ``major-faults`` …
    """

    time: int
    values: Mapping[str, int]


class BalloonInfo(NamedTuple):
    """The balloon now.

    :ivar actual: bytes that the guest has.
    :ivar statistics: None: it was not asked for any, or has not answered yet.
    """

    actual: int
    statistics: GuestStatistics | None = None


class Balloon(Protocol):
    """The machine's balloon, as managers see it."""

    async def resize(self, size: int) -> None:
        """Ask the guest to get along with ``size`` bytes; BalloonMoved tells how far it is.

        :param size: taken for the nearest that is possible: all of its memory at most.
        :raises CommandError: of class DeviceNotActive if there is no balloon.
        """

    def info(self) -> BalloonInfo:
        """The balloon as the guest last said.

        :raises CommandError: of class DeviceNotActive if there is no balloon.
        """

"""The snapshot that is being taken, or was taken last, as managers see it."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol


class MigrationStatus(enum.Enum):
    """How far it is; the values are the manual's states in small letters, and QEMU's ``cancelled``."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RamProgress(NamedTuple):
    """Bytes of guest memory: in all, not looked at yet, and written; zeros are not written."""

    total: int
    remaining: int
    transferred: int


class MigrationInfo(NamedTuple):
    """A snapshot.

    :ivar ram: None: it has not come so far.
    :ivar milliseconds: that it has taken; None: it was not taken here.
    :ivar problem: why it failed.
    """

    status: MigrationStatus = MigrationStatus.NONE
    ram: RamProgress | None = None
    milliseconds: int | None = None
    problem: str | None = None


class Migration(Protocol):
    """How snapshots are taken, and what became of the last."""

    @property
    def info(self) -> MigrationInfo: ...

    async def save(self, directory: str) -> None:
        """Pause the machine and write it to ``directory``; it stays paused. Returns when all is written.

        If that fails or is cancelled, the machine goes on as before.

        :raises CommandError: the state does not allow it, it failed, or it was cancelled.
        """

    def cancel(self) -> None:
        """Cancel the snapshot that is being taken, if there is one."""

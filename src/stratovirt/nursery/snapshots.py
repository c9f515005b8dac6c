"""Snapshots of the running machine: the job that pauses it and has it written.

The law: the job holds the machine's turn, so that others are refused by its name; its thread is waited for
on every way out, and told to give up when it is cancelled or the process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import trio

from stratovirt.errors import CommandError, SnapshotCancelled, SnapshotError
from stratovirt.machine.migration import MigrationInfo, MigrationStatus, RamProgress
from stratovirt.memory import Region
from stratovirt.migration.progress import Progress
from stratovirt.migration.writer import write_snapshot
from stratovirt.vmstate import Section

log = logging.getLogger(__name__)


class Write(Protocol):
    """Has all of a machine's state at hand, in a thread."""

    def __call__(self, regions: Sequence[Region], sections: Sequence[Section]) -> None: ...


class SavableMachine(Protocol):
    """What of the machine a snapshot needs (:class:`stratovirt.nursery.machine.MachineTree`)."""

    async def save(self, write: Write) -> None:
        """Call ``write`` in a thread while nobody changes RAM or state. Only while paused."""


class Machine(Protocol):
    """What of the supervisor a snapshot needs."""

    def saving(self, begun: Callable[[], None]) -> AbstractAsyncContextManager[SavableMachine]:
        """Hold the turn with the machine paused; it goes on if the block fails.

        :param begun: called when it is certain that the state allows it, before anything is done.
        :raises CommandError: the state does not allow it.
        """


class Snapshots:
    """Implements :class:`stratovirt.machine.migration.Migration`.

    :param memory: bytes of RAM.
    :param restored: the machine itself comes from a snapshot.
    """

    def __init__(self, machine: Machine, memory: int, *, restored: bool = False) -> None:
        self._machine = machine
        self._memory = memory
        self._progress: Progress | None = None
        self._waiting = trio.CancelScope()
        self._status = MigrationStatus.COMPLETED if restored else MigrationStatus.NONE
        self._problem: str | None = None

    @property
    def info(self) -> MigrationInfo:
        """See :class:`Migration`."""
        progress = self._progress
        if progress is None:
            return MigrationInfo(self._status)
        ram = RamProgress(progress.total, progress.remaining, progress.transferred)
        return MigrationInfo(self._status, ram, progress.total_time, self._problem)

    async def save(self, directory: str) -> None:
        """See :class:`Migration`."""
        progress, waiting = Progress(self._memory), trio.CancelScope()
        async with self._machine.saving(partial(self._begin, progress, waiting)) as machine:
            try:
                progress.check()
                with waiting:
                    await machine.save(partial(self._write, progress, directory))
                if waiting.cancelled_caught:
                    raise SnapshotCancelled("the snapshot was cancelled")
            except Exception as error:  # whatever it is, the machine goes on
                self._fail(error)
                raise CommandError(f"migrate: {self._problem or error}") from error
            finally:
                progress.end()
            self._status = MigrationStatus.COMPLETED
            log.info("snapshot written to %s in %d ms", directory, progress.total_time)

    def cancel(self) -> None:
        """See :class:`Migration`."""
        if self._progress is not None and self._status in (MigrationStatus.SETUP, MigrationStatus.ACTIVE):
            self._progress.cancel()
            self._waiting.cancel()

    def _begin(self, progress: Progress, waiting: trio.CancelScope) -> None:
        self._progress, self._waiting = progress, waiting
        self._status, self._problem = MigrationStatus.SETUP, None

    def _write(
        self, progress: Progress, directory: str, regions: Sequence[Region], sections: Sequence[Section]
    ) -> None:
        self._status = MigrationStatus.ACTIVE
        write_snapshot(directory, regions, sections, progress)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, SnapshotCancelled):
            self._status = MigrationStatus.CANCELLED
            log.info("the snapshot was cancelled")
            return
        self._status = MigrationStatus.FAILED
        if isinstance(error, SnapshotError):
            self._problem = str(error)
            log.warning("no snapshot: %s", error)
        else:
            self._problem = f"internal error ({error!r})"
            log.error("no snapshot", exc_info=error)

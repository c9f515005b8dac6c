"""Snapshots of the running machine: the job that pauses it and has it written.

The law: the job holds the machine's turn, so that others are refused by its name; its thread is waited for
on every way out, and told to give up when it is cancelled or the process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
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

    def saving(self) -> AbstractAsyncContextManager[SavableMachine]:
        """Hold the turn with the machine paused; it goes on if the block fails.

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
        async with self._machine.saving() as machine:
            self._progress, self._waiting = Progress(self._memory), trio.CancelScope()
            self._status, self._problem = MigrationStatus.SETUP, None
            try:
                with self._waiting:
                    await machine.save(partial(self._write, self._progress, directory))
                if self._waiting.cancelled_caught:
                    raise SnapshotCancelled("cancelled")
            except (SnapshotCancelled, SnapshotError) as error:
                self._fail(error)
                raise CommandError(f"migrate: {error}") from error
            self._status = MigrationStatus.COMPLETED
            log.info("snapshot written to %s in %d ms", directory, self._progress.total_time)

    def cancel(self) -> None:
        """See :class:`Migration`."""
        if self._progress is not None and self._status in (MigrationStatus.SETUP, MigrationStatus.ACTIVE):
            self._progress.cancel()
            self._waiting.cancel()

    def _write(
        self, progress: Progress, directory: str, regions: Sequence[Region], sections: Sequence[Section]
    ) -> None:
        self._status = MigrationStatus.ACTIVE
        write_snapshot(directory, regions, sections, progress)

    def _fail(self, error: Exception) -> None:
        cancelled = isinstance(error, SnapshotCancelled)
        self._status = MigrationStatus.CANCELLED if cancelled else MigrationStatus.FAILED
        self._problem = None if cancelled else str(error)
        log.warning("no snapshot: %s", error)

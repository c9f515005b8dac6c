"""The plain reads and writes of a block device's queues, by C (native/block.c).

:mod:`stratovirt.devices.virtio.blkrequest` says what they do. What C does not carry out whole it leaves in
its queue, for the code there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from stratovirt.backends.disk.contract import SECTOR, Disk
from stratovirt.devices.virtio.blkstats import BlockStats, Counter
from stratovirt.devices.virtio.queue import Virtqueue
from stratovirt.memory import GuestMemory
from stratovirt.native.block import Block

BATCH = 32
"""Requests, at most, before the driver hears of them, and may reset the device."""


class NativePath:
    """Serves ``disk`` as far as C can."""

    def __init__(self, disk: Disk, block: Block) -> None:
        self._writable = not disk.read_only
        self._block = block

    @classmethod
    def of(cls, disk: Disk, memory: GuestMemory) -> NativePath | None:
        """None: all of this disk is for Python."""
        if disk.file is None or memory.native_written is None:
            return None
        regions = memory.native_regions()
        sectors = disk.size // SECTOR
        return cls(disk, Block(regions, memory.native_written, file=disk.file, sectors=sectors))

    def serve(self, queue: Virtqueue, stats: BlockStats, *, cached: bool) -> int:
        """Serve some of what waits, and tell the driver; why no more.

        :param cached: writes may wait for a flush; otherwise they are for Python.
        """
        end = queue.lend(partial(self._block.serve, writable=self._writable and cached, most=BATCH))
        _move(self._block.reads, stats.reads)
        _move(self._block.writes, stats.writes)
        return end


def _move(count: Any, counter: Counter) -> None:
    """Add what C has counted."""
    if count.operations:
        counter.operations += count.operations
        counter.bytes += count.bytes
        counter.nanoseconds += count.nanoseconds
        count.operations = count.bytes = count.nanoseconds = 0

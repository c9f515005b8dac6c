"""Virtio block device (virtio 1.2 §5.2): a disk image as the guest's disk, or an empty slot for one.

The law: whatever the image or the driver does, the machine goes on. What the host cannot do is an I/O error
to the guest and a line in the log; what is no request at all breaks the queue.
"""

from __future__ import annotations

import logging
import struct
import time
from typing import Any

from stratovirt.backends.disk.contract import SECTOR, Disk
from stratovirt.devices.virtio.blknative import NativePath
from stratovirt.devices.virtio.blkrequest import (
    IOERR,
    MAX_RANGE_SECTORS,
    MAX_RANGES,
    OK,
    OPERATIONS,
    T_GET_ID,
    UNSUPP,
    Operation,
    Refused,
    header,
)
from stratovirt.devices.virtio.blkstats import BlockStats
from stratovirt.devices.virtio.blkthrottle import Throttle
from stratovirt.devices.virtio.constants import ID_BLOCK
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue
from stratovirt.devices.virtio.telling import worth_telling
from stratovirt.devices.virtio.timer import Timer
from stratovirt.native.block import End

log = logging.getLogger(__name__)

# Feature bits (§5.2.3).
SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 10
CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES = 1 << 11, 1 << 12, 1 << 13, 1 << 14

# The config space (§5.2.4): capacity, size_max, seg_max, cylinders, heads, sectors, blk_size,
# physical_block_exp, alignment_offset, min_io_size, opt_io_size, writeback, num_queues,
# three numbers for discard, two for write-zeroes, write_zeroes_may_unmap.
_CONFIG = struct.Struct("<QIIHBBIBBHIBxHIIIIIB3x")
WRITEBACK = 32  # its offset

QUEUE_SIZE = 256
"""QEMU's and StratoVirt's."""
ID_BYTES = 20


class VirtioBlock(VirtioDevice):
    """A disk, or an empty slot: a disk of capacity 0.

    A slot offers all that any disk may need, for the driver negotiates only once.

    :param name: for logs.
    :param disk: what is plugged in at first. A read-only one makes the slot read-only for good.
    :param serial: 20 bytes of it count.
    :param queues: how many.
    :param queue_size: entries of each, a power of two.
    :param block_size: logical, bytes, a power of two.
    :param physical_block_size: bytes, ``block_size`` times a power of two.
    :ivar disk: what is plugged in.
    :ivar read_only: the driver was told so.
    :ivar stats: of the disk that is, or was last, plugged in.
    """

    device_id = ID_BLOCK

    def __init__(
        self,
        name: str,
        disk: Disk | None = None,
        serial: str = "",
        *,
        queues: int = 1,
        queue_size: int = QUEUE_SIZE,
        block_size: int = SECTOR,
        physical_block_size: int = SECTOR,
    ) -> None:
        self.name = name
        self.disk = disk
        self.serial = serial
        self.stats = BlockStats()
        self.read_only = disk is not None and disk.read_only
        self.queue_sizes = (queue_size,) * queues
        self.features = SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | DISCARD | WRITE_ZEROES
        self.features |= (RO if self.read_only else 0) | (MQ if queues > 1 else 0)
        self._block_size, self._physical_block_size = block_size, physical_block_size
        self._writeback = True
        self._throttle: Throttle | None = None
        self._timer: Timer | None = None
        self._native: NativePath | None = None

    @property
    def blocking(self) -> bool:
        """A disk may block; an empty slot has nothing to wait for."""
        return self.disk is not None

    @property
    def writeback(self) -> bool:
        """May what was written wait for a flush?"""
        return self._writeback

    def plug(self, disk: Disk, serial: str) -> None:
        """Put ``disk`` into the empty slot; not while anybody serves it."""
        self.disk, self.serial, self.stats = disk, serial, BlockStats()
        self.transport.config_changed()

    def unplug(self) -> None:
        """Make it an empty slot; not while anybody serves it. The disk stays open."""
        self.disk, self.serial = None, ""
        self.transport.config_changed()

    def config(self) -> bytes:
        """See :class:`VirtioDevice`."""
        disk = self.disk
        blocks_together = self._physical_block_size // self._block_size
        return _CONFIG.pack(
            disk.size // SECTOR if disk else 0,
            0,
            max(1, self.queue_sizes[0] - 2),  # the header and the status have descriptors too
            *(0, 0, 0),
            self._block_size,
            *(blocks_together.bit_length() - 1, 0, blocks_together, 0),
            self._writeback,
            len(self.queue_sizes),
            *(MAX_RANGE_SECTORS, MAX_RANGES, self._block_size // SECTOR),
            *(MAX_RANGE_SECTORS, MAX_RANGES, True),
        )

    def write_config(self, offset: int, data: bytes) -> None:
        """Only ``writeback`` can be written (§5.2.5)."""
        if offset == WRITEBACK and len(data) == 1:
            self._writeback = bool(data[0])

    def activate(self, features: int) -> None:
        """A driver that cannot flush must not have to (§5.2.5.2)."""
        if not features & (FLUSH | CONFIG_WCE):
            self._writeback = False

    def reset(self) -> None:
        """See :class:`VirtioDevice`."""
        self._writeback = True

    def interrupt(self) -> None:
        """See :class:`VirtioDevice`."""
        if (disk := self.disk) is not None:
            disk.interrupt()

    def attached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        self._native = NativePath.of(self.disk, self.transport.memory) if self.disk else None
        if self.disk is not None and self.disk.iops:
            self._throttle, self._timer = Throttle(self.disk.iops), Timer()
            reactor.watch(self._timer.fd, self._may_go_on)

    def detached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        self._native = None
        timer, self._throttle, self._timer = self._timer, None, None
        if timer is not None:
            reactor.unwatch(timer.fd)
            timer.close()

    def serve(self, queue: Virtqueue) -> bool:
        """See :class:`VirtioDevice`; a request that comes too early stays in its queue."""
        if self._throttle is None or self._timer is None or self.draining:
            return self._serve_now(queue)
        if wait := self._throttle.wait():
            if not self._timer.armed:
                self._timer.arm(wait)
            return False
        more = super().serve(queue)
        if more:
            self._throttle.take()
        return more

    def _serve_now(self, queue: Virtqueue) -> bool:
        """In C as far as it goes."""
        end: int = End.PYTHON
        if self._native is not None:
            end = self._native.serve(queue, self.stats, cached=self._writeback)
        return super().serve(queue) if end == End.PYTHON else end == End.MORE

    def _may_go_on(self) -> None:
        if self._timer is not None:
            self._timer.clear()
        for index in range(len(self.queue_sizes)):
            self.transport.ring(index)

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        """See :class:`VirtioDevice`."""
        kind, sector = header(chain)
        if kind == T_GET_ID:
            chain.write(self.serial.encode()[:ID_BYTES].ljust(ID_BYTES, b"\0")[: chain.writable_length - 1])
            status = OK
        elif kind not in OPERATIONS:
            status = UNSUPP
        else:
            status = self._carry_out(OPERATIONS[kind], sector, chain)
        chain.write(status, chain.writable_length - 1)
        return chain.writable_length

    def backend_facts(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`."""
        disk = self.disk
        return {"image": f"{disk.size} bytes{', read-only' * disk.read_only}" if disk else "none"}

    def save(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`."""
        return {"writeback": self._writeback}

    def load(self, version: int, state: dict[str, Any]) -> None:
        """See :class:`VirtioDevice`."""
        self._writeback = state["writeback"]

    def _carry_out(self, operation: Operation, sector: int, chain: Chain) -> bytes:
        """Do a request and count it; its status."""
        if self.disk is None:
            return IOERR
        counter = operation.counter(self.stats)
        started = time.monotonic_ns()
        try:
            length = operation.carry_out(self.disk, sector, chain)
            if not self._writeback and counter is self.stats.writes:
                self.disk.flush()
        except Refused as refused:
            counter.invalid += 1
            return refused.status
        except OSError as error:
            counter.failed += 1
            self._tell_failure(operation, sector, counter.failed, error)
            return IOERR
        counter.operations += 1
        counter.bytes += length
        counter.nanoseconds += time.monotonic_ns() - started
        return OK

    def _tell_failure(self, operation: Operation, sector: int, count: int, error: OSError) -> None:
        if worth_telling(count):
            why = error.strerror  # not the error, whose traceback has views of guest memory
            log.error("%s: %s at sector %d: %s (%d so far)", self.name, operation.name, sector, why, count)

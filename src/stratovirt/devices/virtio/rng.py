"""virtio-rng: entropy of the host's for the guest (virtio 1.2 §5.4).

The law: a source that has nothing to give makes the guest wait, and nobody else.
"""

from __future__ import annotations

import logging
import os

from stratovirt.devices.virtio.constants import ID_ENTROPY
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue
from stratovirt.devices.virtio.timer import Timer

log = logging.getLogger(__name__)

QUEUE_SIZE = 256
REQUESTS = 0
READ_SIZE = 4096
"""Bytes that are asked of the source at a time; Linux's driver wants 64 at a time."""
NO_LIMIT = (1 << 63) - 1
DEFAULT_PERIOD = 65.536
"""QEMU's defaults (hw/virtio/virtio-rng.c)."""


class VirtioRng(VirtioDevice):
    """Hands out what it reads from ``source``.

    :param source: open for reading without blocking; closed by who opened it.
    :param max_bytes: that the guest gets in a period.
    :param period: seconds; one begins with the first byte that the guest gets after the last.
    :raises OSError: no fds are left.
    """

    device_id = ID_ENTROPY
    queue_sizes = (QUEUE_SIZE,)

    def __init__(self, source: int, max_bytes: int = NO_LIMIT, period: float = DEFAULT_PERIOD) -> None:
        self._source = source
        self._read = b""  # and not handed out yet
        self._max_bytes = self._budget = max_bytes
        self._period = period
        self._timer = Timer()
        self._reactor: Reactor | None = None
        self._waiting = False  # for the source

    def attached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        self._reactor = reactor
        reactor.watch(self._timer.fd, self._period_over)

    def detached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        reactor.unwatch(self._timer.fd)
        self._stop_waiting()
        self._reactor = None

    def serve(self, queue: Virtqueue) -> bool:
        """See :class:`VirtioDevice`; a request stays in the queue until there is something for it."""
        return self._has_some() and super().serve(queue)

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        """Fill the buffer as far as what is there reaches: an answer may be short (§5.4.6)."""
        written = chain.write(self._read[: self._budget])
        self._read = self._read[written:]
        self._budget -= written
        if not self._timer.armed:
            self._timer.arm(self._period)
        return written

    def close(self) -> None:
        """See :class:`VirtioDevice`."""
        self._timer.close()

    def _has_some(self) -> bool:
        """Is there something to hand out now? If not, the queue is rung when there is."""
        if self._budget and not self._read:
            self._fill()
        return bool(self._budget and self._read)

    def _fill(self) -> None:
        try:
            self._read = os.read(self._source, READ_SIZE)
        except BlockingIOError:
            self._wait_for_source()
        except OSError as error:
            log.warning("virtio-rng: its source cannot be read: %s", error.strerror)

    def _wait_for_source(self) -> None:
        if self._reactor is not None and not self._waiting:
            self._waiting = True
            self._reactor.watch(self._source, self._source_ready)

    def _stop_waiting(self) -> None:
        if self._reactor is not None and self._waiting:
            self._waiting = False
            self._reactor.unwatch(self._source)

    def _source_ready(self) -> None:
        self._stop_waiting()
        self.transport.ring(REQUESTS)

    def _period_over(self) -> None:
        self._timer.clear()
        self._budget = self._max_bytes
        self.transport.ring(REQUESTS)

"""virtio-balloon: memory that the guest does without goes back to the host (virtio 1.2 §5.5).

The law: a page is discarded only when the driver has named it, and whatever it names, only RAM is touched.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from stratovirt.devices.virtio.constants import ID_BALLOON
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.kick import Kick
from stratovirt.devices.virtio.queue import BrokenQueue, Chain, Virtqueue
from stratovirt.devices.virtio.timer import Timer
from stratovirt.memory import BadAddress

log = logging.getLogger(__name__)

# Feature bits (§5.5.3).
STATS_VQ = 1 << 1
DEFLATE_ON_OOM = 1 << 2
PAGE_REPORTING = 1 << 5

QUEUE_SIZE = 128
PAGE = 4096
"""Of the balloon's page numbers, whatever the guest's own pages are (§5.5.6)."""
STATISTICS_QUEUE = 2
MAX_PAGES_PER_REQUEST = 1024
"""Page numbers that are taken from one request; Linux puts in at most 256."""

_CONFIG = struct.Struct("<II")  # num_pages, actual
_ACTUAL = 4  # its offset
_STATISTIC = struct.Struct("<HQ")  # tag, value (§5.5.6.3)
MAX_STATISTICS = 64

EVENT_SECONDS = 1.0
"""How often a move of the balloon is told at most; a guest moves it for each MiB."""

STATISTICS = (
    *("swap-in", "swap-out", "major-faults", "minor-faults", "free-memory", "total-memory"),
    *("available-memory", "disk-caches", "htlb-pgalloc", "htlb-pgfail"),
)
"""By tag (§5.5.6.4), in QEMU's words (docs/interop/virtio-balloon-stats)."""


class Statistics(NamedTuple):
    """What the guest said of its memory.

    :ivar time: when, in seconds since the epoch.
    :ivar values: those that it knows, in bytes or as counts, by the names in :data:`STATISTICS`.
    """

    time: int
    values: dict[str, int]


class VirtioBalloon(VirtioDevice):
    """A balloon in a guest with ``memory`` bytes of RAM.

    :param deflate_on_oom: may the guest take pages out by itself when it runs out of memory?
    :param page_reporting: does it report pages that it has freed?
    :param statistics_seconds: how often it is asked for statistics; 0: never.
    :raises OSError: no fds are left.
    :ivar moved: called with the bytes that the guest has now, on the thread that serves the device, when
        they have changed, once per :data:`EVENT_SECONDS` at most.
    :ivar statistics: the guest's latest; None: none yet.
    """

    device_id = ID_BALLOON

    def __init__(
        self,
        memory: int,
        *,
        deflate_on_oom: bool = False,
        page_reporting: bool = False,
        statistics_seconds: int = 0,
    ) -> None:
        self.memory = memory
        statistics = statistics_seconds > 0
        self.features = (
            STATS_VQ * statistics | DEFLATE_ON_OOM * deflate_on_oom | PAGE_REPORTING * page_reporting
        )
        self.queue_sizes = (QUEUE_SIZE,) * (2 + statistics + page_reporting)
        self.moved: Callable[[int], None] = lambda _actual: None
        self.statistics: Statistics | None = None
        self._pages = self._actual = 0  # in the balloon: as asked for, and as it is
        self._told = 0
        self._roles = self._queue_roles(0)
        self._statistics_seconds = statistics_seconds
        self._statistics_head: int | None = None  # of the driver's buffer, which we hold until we ask
        self._changed = Kick()
        self._event_timer, self._statistics_timer = Timer(), Timer()

    # -- the host's side -----------------------------------------------------------------------------

    @property
    def actual(self) -> int:
        """Bytes that the guest has now."""
        return self.memory - self._actual * PAGE

    def set_target(self, size: int) -> None:
        """Ask the guest to get along with ``size`` bytes; at most all of its memory."""
        self._pages = max(self.memory - size, 0) // PAGE
        self.transport.config_changed()

    # -- the driver's side ---------------------------------------------------------------------------

    def config(self) -> bytes:
        """See :class:`VirtioDevice`."""
        return _CONFIG.pack(self._pages, self._actual)

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver says how many pages are in the balloon; more than there are is taken for all."""
        if offset == _ACTUAL and len(data) == 4:
            self._set_actual(min(int.from_bytes(data, "little"), self.memory // PAGE))

    def activate(self, features: int) -> None:
        """See :class:`VirtioDevice`."""
        self._roles = self._queue_roles(features)

    def reset(self) -> None:
        """The driver has forgotten its pages. What the host asked for stays: see :meth:`set_target`."""
        self._statistics_head = None
        self.statistics = None
        self._set_actual(0)

    def close(self) -> None:
        """See :class:`VirtioDevice`."""
        self._changed.close()
        self._event_timer.close()
        self._statistics_timer.close()

    def save(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`."""
        return {"pages": self._pages, "actual": self._actual, "statistics_head": self._statistics_head}

    def load(self, version: int, state: dict[str, Any]) -> None:
        """See :class:`VirtioDevice`."""
        self._pages, self._actual = state["pages"], state["actual"]
        self._statistics_head = state["statistics_head"]

    # -- the device's thread -------------------------------------------------------------------------

    def attached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        reactor.watch(self._changed.fd, self._on_change)
        reactor.watch(self._event_timer.fd, self._on_event_timer)
        reactor.watch(self._statistics_timer.fd, self._ask_for_statistics)
        if self._statistics_seconds:
            self._statistics_timer.arm(self._statistics_seconds)

    def detached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        for fd in (self._changed.fd, self._event_timer.fd, self._statistics_timer.fd):
            reactor.unwatch(fd)

    def serve(self, queue: Virtqueue) -> bool:
        """See :class:`VirtioDevice`."""
        chain = queue.pop()
        if chain is None:
            return False
        self._roles[queue.index](queue, chain)
        return True

    def _queue_roles(self, features: int) -> list[Callable[[Virtqueue, Chain], None]]:
        """What each queue is for: those of features that were not negotiated are not counted (§5.5.2)."""
        roles: list[Callable[[Virtqueue, Chain], None]] = [self._inflate, self._deflate]
        roles += [self._take_statistics] if features & STATS_VQ else []
        roles += [self._report] if features & PAGE_REPORTING else []
        return roles + [self._refuse] * (len(self.queue_sizes) - len(roles))

    def _inflate(self, queue: Virtqueue, chain: Chain) -> None:
        """The guest does without these pages."""
        count = min(chain.readable_length // 4, MAX_PAGES_PER_REQUEST)
        numbers = struct.unpack(f"<{count}I", chain.read(4 * count))
        for first, pages in runs(sorted(set(numbers))):
            self._discard(first * PAGE, pages * PAGE)
        queue.push(chain)

    def _deflate(self, queue: Virtqueue, chain: Chain) -> None:
        """The guest takes pages back: the host gives them when they are touched."""
        queue.push(chain)

    def _report(self, queue: Virtqueue, chain: Chain) -> None:
        """The guest has freed these pages, and does not mind when they read zero (§5.5.6.7)."""
        for gpa, segment in zip(chain.writable_gpas, chain.writable, strict=True):
            self._discard(gpa, len(segment))
        queue.push(chain)

    def _refuse(self, queue: Virtqueue, chain: Chain) -> None:
        raise BrokenQueue("the queue belongs to a feature that was not negotiated")

    def _discard(self, gpa: int, length: int) -> None:
        try:
            self.transport.memory.discard(gpa, length)
        except BadAddress as error:
            log.debug("balloon: %s", error)
        except OSError as error:
            log.warning("balloon: the host keeps memory at %#x: %s", gpa, error.strerror)

    def _take_statistics(self, queue: Virtqueue, chain: Chain) -> None:
        """Note what the guest says, and keep its buffer until the next are wanted (§5.5.6.3)."""
        self._give_back_statistics(queue)
        self._statistics_head = chain.head
        data = chain.read(_STATISTIC.size * MAX_STATISTICS)
        whole = len(data) // _STATISTIC.size * _STATISTIC.size
        pairs = _STATISTIC.iter_unpack(data[:whole])
        values = {STATISTICS[tag]: value for tag, value in pairs if tag < len(STATISTICS)}
        self.statistics = Statistics(int(time.time()), values)

    def _give_back_statistics(self, queue: Virtqueue) -> None:
        head, self._statistics_head = self._statistics_head, None
        if head is not None:
            queue.push(Chain(head))

    def _ask_for_statistics(self) -> None:
        self._statistics_timer.arm(self._statistics_seconds)
        with self.transport.lock:
            queue = self.transport.queue(STATISTICS_QUEUE)
            if queue is not None:
                self._give_back_statistics(queue)
                queue.notify()

    # -- events --------------------------------------------------------------------------------------

    def _set_actual(self, pages: int) -> None:
        """Any thread."""
        self._actual = pages
        self._changed.ring()

    def _on_change(self) -> None:
        self._changed.clear()
        if not self._event_timer.armed:
            self._tell()

    def _on_event_timer(self) -> None:
        self._event_timer.clear()
        self._tell()

    def _tell(self) -> None:
        if self._told != self._actual:
            self._told = self._actual
            self._event_timer.arm(EVENT_SECONDS)
            self.moved(self.actual)


def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """``(first, count)`` of each run of consecutive numbers in ``numbers``, which ascend."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield numbers[start], end - start
            start = end

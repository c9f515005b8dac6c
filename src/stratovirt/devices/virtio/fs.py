"""virtio-fs: a directory of the host's in the guest, by a file server such as virtiofsd (virtio 1.2 §5.11).

The law: the guest's requests go to the server checked, its answers to the guest with the accelerator told;
when the server has gone, or is too slow to leave the guest's memory alone at a reset, the guest waits for its
files, and nobody else does.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from stratovirt.devices.virtio.constants import ID_FILE_SYSTEM, RING_INDIRECT_DESC, VERSION_1
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.kick import Kick
from stratovirt.devices.virtio.lentring import MAX_SIZE, LentRing, LentRings
from stratovirt.devices.virtio.queue import BrokenQueue, Chain, Virtqueue
from stratovirt.errors import SnapshotError
from stratovirt.memory.files import FileRegion

log = logging.getLogger(__name__)

QUEUES = 2
"""One for what is urgent (FORGET), one for requests (§5.11.2)."""
MAX_TAG = 36  # bytes (§5.11.4)
RINGS_ADDRESS = 1 << 46
"""Where no guest has RAM: our rings among the memory that the server is told of."""

_CONFIG = struct.Struct(f"<{MAX_TAG}sI")  # tag, request queues


class FileServer(Protocol):
    """The process that has the files (:class:`stratovirt.backends.vhostuser.VhostUser`).

    ``share``, ``start`` and ``stop`` raise OSError when it has gone, or lets us wait for more than a moment.

    :ivar fd: readable when it has gone, or answers.
    """

    @property
    def fd(self) -> int: ...

    def share(self, features: int, regions: Sequence[tuple[int, int, int, int]]) -> None: ...

    def start(
        self, queue: int, size: int, descriptors: int, available: int, used: int, *, kick: int, call: int
    ) -> None: ...

    def stop(self, queues: Iterable[int]) -> None: ...

    def has_gone(self) -> bool: ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


class _Lent:
    """A queue that the server is at work on.

    :ivar held: what it has of the guest's chains, by head.
    """

    def __init__(self, ring: LentRing) -> None:
        self.ring = ring
        self.held: dict[int, Chain] = {}


class VirtioFs(VirtioDevice):
    """What the guest mounts as ``tag``: up to 36 bytes of UTF-8.

    :raises OSError: no fds are left.
    """

    device_id = ID_FILE_SYSTEM
    queue_sizes = (MAX_SIZE,) * QUEUES

    def __init__(self, tag: str, server: FileServer) -> None:
        self._tag = tag
        self._server = server
        self._rings = LentRings(QUEUES, RINGS_ADDRESS)
        self._kicks = [Kick() for _ in range(QUEUES)]
        self._calls = [Kick() for _ in range(QUEUES)]
        self._lent: dict[int, _Lent] = {}
        self._gone = False
        self._watching = False

    @property
    def blocking(self) -> bool:
        """The server is told of drivers with the lock held, and trio is not to wait for that."""
        return True

    def config(self) -> bytes:
        """See :class:`VirtioDevice`."""
        return _CONFIG.pack(self._tag.encode(), QUEUES - 1)

    # -- the driver's side: on a vCPU thread, with the lock held ---------------------------------------

    def activate(self, features: int) -> None:
        """Lend the server the queues that the driver has enabled."""
        if self._gone:
            return
        try:
            self._server.share(features & (VERSION_1 | RING_INDIRECT_DESC), self._regions())
            for index in range(QUEUES):
                if queue := self.transport.queue(index):
                    self._lend(index, queue)
        except OSError as error:
            self._lose(error.strerror or "it does not answer")

    def reset(self) -> None:
        """Wait until the server leaves the guest's memory alone: it is the driver's again.

        Once only if the server is slow: it is then hung up on.
        """
        lent, self._lent = self._lent, {}
        try:
            if lent and not self._gone:
                self._server.stop(lent)
        except OSError as error:
            self._lose(error.strerror or "it does not answer")

    def _lend(self, index: int, queue: Virtqueue) -> None:
        ring = self._rings.ring(index, queue.size)
        self._lent[index] = _Lent(ring)
        self._server.start(
            index,
            queue.size,
            queue.rings.descriptors,
            ring.available,
            ring.used,
            kick=self._kicks[index].fd,
            call=self._calls[index].fd,
        )

    def _regions(self) -> list[tuple[int, int, int, int]]:
        """Guest memory, as far as it can be shared, and the rings."""
        rings = (RINGS_ADDRESS, self._rings.size, self._rings.fd, 0)
        shared = [region for region in self.transport.memory.regions if isinstance(region, FileRegion)]
        return [*((region.gpa, region.size, region.fd, region.start) for region in shared), rings]

    # -- the device's thread -------------------------------------------------------------------------

    def attached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        for index, call in enumerate(self._calls):
            reactor.watch(call.fd, partial(self._called, index))
        reactor.watch(self._server.fd, partial(self._hung_up, reactor))
        self._watching = True

    def detached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        for call in self._calls:
            reactor.unwatch(call.fd)
        self._unwatch_server(reactor)

    def serve(self, queue: Virtqueue) -> bool:
        """See :class:`VirtioDevice`: pass one chain on."""
        lent = self._lent.get(queue.index)
        if self._gone or lent is None:
            raise BrokenQueue("nobody serves it: the file server has gone, or was never told of it")
        chain = queue.pop()
        if chain is None:
            return False
        if chain.head in lent.held:
            raise BrokenQueue(f"the chain at descriptor {chain.head} is offered twice")
        lent.held[chain.head] = chain
        lent.ring.offer(chain.head)
        self._kicks[queue.index].ring()
        return True

    def _called(self, index: int) -> None:
        """The server has used buffers: give them to the guest."""
        self._calls[index].clear()
        with self.transport.lock:
            lent, queue = self._lent.get(index), self.transport.queue(index)
            if lent is None or queue is None:
                return
            for head, written in lent.ring.collect():
                if chain := lent.held.pop(head, None):  # another it was never given
                    queue.push(chain, written)
            queue.notify()

    def _hung_up(self, reactor: Reactor) -> None:
        if not self._server.has_gone():
            return  # an answer that a vCPU thread is about to take
        self._unwatch_server(reactor)
        with self.transport.lock:
            self._lose("it has closed the connection")
        for index in range(QUEUES):
            self.transport.ring(index)

    def _unwatch_server(self, reactor: Reactor) -> None:
        if self._watching:
            self._watching = False
            reactor.unwatch(self._server.fd)

    def _lose(self, why: str) -> None:
        """The server is of no use any more. With the lock held."""
        if not self._gone:
            self._gone = True
            self._server.hang_up()  # it may still be at work in the guest's memory: virtiofsd then ends
            log.error("vhost-user-fs: %s: the file server is lost: %s", self._tag, why)

    # -- the machine's side ----------------------------------------------------------------------------

    def close(self) -> None:
        """See :class:`VirtioDevice`."""
        self._lent.clear()  # its chains are views of guest memory
        self._server.close()
        self._rings.close()
        for kick in (*self._kicks, *self._calls):
            kick.close()

    def save(self) -> dict[str, Any]:
        """Refuse: what the guest has open is known to the server alone.

        :raises SnapshotError: always.
        """
        raise SnapshotError(f"the directory {self._tag} is shared by a process that cannot be saved")

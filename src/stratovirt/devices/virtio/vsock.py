"""virtio-vsock: stream sockets between the guest and the host, without a network (virtio 1.2 §5.10).

The law: this thread waits for nobody. Neither a guest that offers no buffers nor a host that reads nothing
delays any stream but its own.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import deque
from functools import partial
from typing import Any, Protocol

from stratovirt.devices.virtio.constants import ID_VSOCK
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.kick import Kick
from stratovirt.devices.virtio.queue import BrokenQueue, Virtqueue, cut
from stratovirt.devices.virtio.timer import Timer
from stratovirt.devices.virtio.vsockmux import MAX_CONNECTIONS, Dialler, Multiplexer
from stratovirt.devices.virtio.vsockpacket import HEADER_SIZE, Header
from stratovirt.devices.virtio.vsockstream import HostEnd, Stream
from stratovirt.devices.virtio.watches import Watches

log = logging.getLogger(__name__)

QUEUE_SIZE = 128
"""Of each queue; QEMU's VHOST_VSOCK_QUEUE_SIZE."""
RX, TX, EVENT = range(3)
TRANSPORT_RESET = struct.pack("<I", 0)
"""The event: all connections are gone, and the CID may be another (§5.10.6.7)."""

_CONFIG = struct.Struct("<Q")  # guest_cid

CONNECT_SECONDS = 8.0
"""That the guest has to answer a connection. Linux's VSOCK_CLOSE_TIMEOUT; the 2 s that Linux and Firecracker
give a connection are little for an emulated guest."""
ACCEPT_PAUSE_SECONDS = 0.1
"""Rest when there is no room or no fd for one more; :mod:`stratovirt.chardev.listener`'s."""


class Caller(HostEnd, Protocol):
    """A connection of the host's that is to say which port of the guest's it is for."""

    def port(self) -> int | None:
        """That port; None: it has not said all of it.

        :raises OSError: it has gone, or said something else.
        """


class VsockHost(Dialler, Protocol):
    """The host's side of all connections.

    :ivar fd: readable when somebody wants to connect.
    """

    @property
    def fd(self) -> int: ...

    def accept(self) -> Caller | None:
        """Who wants to connect, if there is still somebody.

        :raises OSError: of fds or memory there is none left now.
        """


class VirtioVsock(VirtioDevice):
    """The guest's socket device.

    :param guest_cid: the guest's address, 3 to 2**32 - 2.
    :param host: stays its owner's.
    :raises OSError: no fds are left.
    """

    device_id = ID_VSOCK
    queue_sizes = (QUEUE_SIZE,) * 3

    def __init__(self, guest_cid: int, host: VsockHost) -> None:
        self._guest_cid = guest_cid
        self._host = host
        self._watches = Watches(self)
        self._mux = Multiplexer(guest_cid, host, self._watches, self._ring_rx)
        self._callers: set[Caller] = set()
        self._unanswered: deque[tuple[float, Stream]] = deque()  # and until when
        self._event_due = False
        self._stalled = False  # the guest is not listened to
        self._patience, self._pause, self._buried = Timer(), Timer(), Kick()
        self._watches.watch(self._patience.fd, self._give_up_late)
        self._watches.watch(self._pause.fd, self._accept_again)
        self._watches.watch(self._buried.fd, self._bury)
        self._watches.watch(host.fd, self._called)

    @property
    def blocking(self) -> bool:
        """Bytes are copied on a thread of the device's own."""
        return True

    def config(self) -> bytes:
        """See §5.10.4."""
        return _CONFIG.pack(self._guest_cid)

    # -- the queues --------------------------------------------------------------------------------------

    def serve(self, queue: Virtqueue) -> bool:
        """One packet, or the event."""
        return (self._receive, self._transmit, self._tell)[queue.index](queue)

    def _receive(self, queue: Virtqueue) -> bool:
        """One packet to the guest."""
        chain = queue.pop() if self._mux.has_packet else None
        if chain is None:
            return False
        if chain.writable_length <= HEADER_SIZE:
            raise BrokenQueue("a receive buffer with no room for a packet")
        length = self._mux.fill(chain)
        if length:
            queue.push(chain, length)
        else:
            queue.put_back()
        if self._stalled and not self._mux.is_full:
            self._stalled = False
            self.transport.ring(TX)
        return length > 0

    def _transmit(self, queue: Virtqueue) -> bool:
        """One packet of the guest's; one that is shorter than it says is dropped."""
        self._stalled = self._mux.is_full
        chain = None if self._stalled else queue.pop()
        if chain is None:
            return False
        if chain.readable_length >= HEADER_SIZE:
            header = Header.unpack(chain.read(HEADER_SIZE))
            if header.length <= chain.readable_length - HEADER_SIZE:
                self._mux.hear(header, cut(chain.readable, HEADER_SIZE, header.length))
        queue.push(chain)
        return True

    def _tell(self, queue: Virtqueue) -> bool:
        """The event, if there is one."""
        chain = queue.pop() if self._event_due else None
        if chain is not None:
            queue.push(chain, chain.write(TRANSPORT_RESET))
            self._event_due = False
        return False

    def _ring_rx(self) -> None:
        self.transport.ring(RX)

    # -- who connects from the host; all with the lock held, on the device's thread ----------------------

    def _called(self) -> None:
        if len(self._mux) + len(self._callers) >= MAX_CONNECTIONS:
            self._rest()
            return
        try:
            caller = self._host.accept()
        except OSError as error:
            log.warning("vsock: cannot accept for now: %s", error.strerror)
            self._rest()
            return
        if caller is not None:
            self._callers.add(caller)
            self._watches.watch(caller.fd, partial(self._caller_speaks, caller))

    def _rest(self) -> None:
        """Who calls waits: it is not refused."""
        self._watches.unwatch(self._host.fd)
        self._pause.arm(ACCEPT_PAUSE_SECONDS)

    def _accept_again(self) -> None:
        self._pause.clear()
        self._watches.watch(self._host.fd, self._called)

    def _caller_speaks(self, caller: Caller) -> None:
        try:
            port = caller.port()
        except OSError as error:
            log.info("vsock: a connection of the host's: %s", error.strerror)
            self._dismiss(caller)
            return
        if port is None:
            return
        if self.transport.queue(RX) is None or len(self._mux) >= MAX_CONNECTIONS:
            self._dismiss(caller)  # there is no driver yet, or the guest has been faster
            return
        self._callers.remove(caller)
        self._watches.unwatch(caller.fd)
        stream = self._mux.connect(caller, port)
        self._unanswered.append((time.monotonic() + CONNECT_SECONDS, stream))
        if not self._patience.armed:
            self._patience.arm(CONNECT_SECONDS)

    def _dismiss(self, caller: Caller) -> None:
        self._callers.remove(caller)
        self._watches.unwatch(caller.fd)
        caller.close()

    def _give_up_late(self) -> None:
        """Connections are given up that the guest had its time to answer."""
        self._patience.clear()
        now = time.monotonic()
        while self._unanswered and self._unanswered[0][0] <= now:
            self._mux.give_up(self._unanswered.popleft()[1])
        if self._unanswered:
            self._patience.arm(self._unanswered[0][0] - now)

    # -- life --------------------------------------------------------------------------------------------

    def attached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        self._watches.attach(reactor)

    def detached(self, reactor: Reactor) -> None:
        """See :class:`VirtioDevice`."""
        self._watches.detach()

    def reset(self) -> None:
        """All connections end; the host's ends are closed on the device's thread, where they are watched."""
        self._event_due = self._stalled = False
        self._unanswered.clear()
        self._mux.reset()
        self._buried.ring()

    def _bury(self) -> None:
        self._buried.clear()
        self._mux.bury()

    def close(self) -> None:
        """See :class:`VirtioDevice`."""
        self._mux.close()
        for caller in tuple(self._callers):
            self._dismiss(caller)
        for held in (self._patience, self._pause, self._buried):
            held.close()

    def save(self) -> dict[str, Any]:
        """Nothing: no connection survives a snapshot, and the CID is the command line's."""
        return {}

    def load(self, version: int, state: dict[str, Any]) -> None:
        """The driver is told that its connections have gone, and reads its CID anew."""
        self._event_due = True
        self.transport.ring(EVENT)

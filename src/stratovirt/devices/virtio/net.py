"""The network card (virtio 1.2 §5.1): pairs of queues between a guest and the ports of a network backend.

The law: what the driver negotiates does not depend on what is plugged in, for a slot is negotiated while it
is empty. So every backend takes what is offered here: frames behind a 12-byte header, which may lack
checksums or hold TCP segments larger than the MTU. Without a backend the link is down, and what is sent is
dropped.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from stratovirt.devices.virtio.constants import ID_NET
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.netcontrol import Control
from stratovirt.devices.virtio.netnative import NativePath
from stratovirt.devices.virtio.netqueues import Port, Receiver, Sender
from stratovirt.devices.virtio.queue import Virtqueue

log = logging.getLogger(__name__)

# Feature bits (§5.1.3).
CSUM, GUEST_CSUM, CTRL_GUEST_OFFLOADS, MTU, MAC = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5
GUEST_TSO4, GUEST_TSO6, GUEST_ECN = 1 << 7, 1 << 8, 1 << 9
HOST_TSO4, HOST_TSO6, HOST_ECN = 1 << 11, 1 << 12, 1 << 13
MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX, MQ, CTRL_MAC_ADDR = 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 22, 1 << 23

GUEST_OFFLOADS = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN
"""What the guest takes; CTRL_GUEST_OFFLOADS changes it (§5.1.6.5.6)."""

ALWAYS = (
    CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | GUEST_OFFLOADS | CTRL_GUEST_OFFLOADS
    | MAC | MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR
)  # fmt: skip

LINK_UP = 1
CONTROL_QUEUE_SIZE = 64
QUEUE_SIZE = 256
"""QEMU's default for both directions."""

# struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu (§5.1.4).
_CONFIG = struct.Struct("<6sHHH")


class NetBackend(Protocol):
    """What the card's cable is plugged into.

    :ivar ports: one per pair of queues that it can serve at the same time.
    :ivar mtu: of the network; None: not known.
    """

    @property
    def ports(self) -> Sequence[Port]: ...

    @property
    def mtu(self) -> int | None: ...

    def set_offloads(self, *, checksum: bool, tso4: bool, tso6: bool, ecn: bool) -> None:
        """What the guest takes: frames without checksums, and TCP segments larger than the MTU."""

    def set_queues(self, count: int) -> None:
        """How many pairs the guest uses."""


class VirtioNet(VirtioDevice):
    """A network card.

    :param mac: 6 bytes, shown to the driver.
    :param pairs: of queues, 1 to 16; the driver is offered to use several if there are.
    :param queue_size: of each, a power of two.
    :param backend: what is plugged in from the beginning; its MTU is told to the driver.
    :ivar receivers: one per pair, with its counters; so are the senders.
    """

    device_id = ID_NET

    def __init__(
        self, mac: bytes, pairs: int = 1, queue_size: int = QUEUE_SIZE, backend: NetBackend | None = None
    ) -> None:
        self.backend = backend
        self.receivers = [Receiver() for _ in range(pairs)]
        self.senders = [Sender() for _ in range(pairs)]
        self.queue_sizes = [queue_size] * 2 * pairs + [CONTROL_QUEUE_SIZE]
        self._own_mac = mac
        self._mtu = backend.mtu if backend is not None else None
        self.features = ALWAYS | (MTU if self._mtu else 0) | (MQ if pairs > 1 else 0)
        self._control = Control(self)
        self._reactor: Reactor | None = None
        self._native: NativePath | None = None
        self._watched: set[int] = set()
        self._clear()

    @property
    def blocking(self) -> bool:
        """With a cable in, frames are copied on a thread of the card's own."""
        return self.backend is not None

    @property
    def largest_pairs(self) -> int:
        """How many pairs of queues there are."""
        return len(self.receivers)

    @property
    def link_up(self) -> bool:
        """Is the cable in?"""
        return self.backend is not None

    def plug(self, backend: NetBackend, mac: bytes | None = None) -> None:
        """Put the cable in, while nobody serves the card; Linux reads a new ``mac`` when it probes."""
        with self.transport.lock:
            self.backend = backend
            if mac is not None:
                self._own_mac = self.mac = mac
            self._tell_backend()
        self.transport.config_changed()

    def unplug(self) -> None:
        """Pull the cable out, while nobody serves the card; the backend is its owner's."""
        with self.transport.lock:
            self.backend = None
        self.transport.config_changed()

    # -- config space and features ---------------------------------------------------------------------

    def config(self) -> bytes:
        """See §5.1.4."""
        status = LINK_UP if self.link_up else 0
        return _CONFIG.pack(self.mac, status, len(self.receivers), self._mtu or 0)

    def activate(self, features: int) -> None:
        """The driver is there: what it takes is told to the backend."""
        self._accepted = features
        self.offloads = features & GUEST_OFFLOADS
        self._tell_backend()

    def use_pairs(self, pairs: int) -> None:
        """Use so many pairs of queues (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)."""
        self.pairs = pairs
        self._tell_backend()

    def use_offloads(self, offloads: int) -> bool:
        """Take other offloads from now on; False: more than was negotiated."""
        if offloads & ~(self._accepted & GUEST_OFFLOADS):
            return False
        self.offloads = offloads
        self._tell_backend()
        return True

    def _tell_backend(self) -> None:
        if self.backend is None:
            return
        self.backend.set_queues(self.pairs)
        self.backend.set_offloads(
            checksum=bool(self.offloads & GUEST_CSUM),
            tso4=bool(self.offloads & GUEST_TSO4),
            tso6=bool(self.offloads & GUEST_TSO6),
            ecn=bool(self.offloads & GUEST_ECN),
        )

    # -- the queues ------------------------------------------------------------------------------------

    def serve(self, queue: Virtqueue) -> bool:
        """One frame, or one command."""
        if queue.index == self._control_index:
            return self._control.serve(queue)
        pair, sends = divmod(queue.index, 2)
        if pair >= len(self.receivers):
            return False  # the control queue's place, of a driver that did not take MQ
        return self._send(pair, queue) if sends else self._receive(pair, queue)

    @property
    def _control_index(self) -> int:
        """Behind the pairs; a driver without MQ has one (§5.1.2)."""
        return 2 * len(self.receivers) if self._accepted & MQ else 2

    def _receive(self, pair: int, queue: Virtqueue) -> bool:
        ports = self._ports()
        if pair >= len(ports):
            return False
        port, receiver = ports[pair], self.receivers[pair]
        try:
            more = receiver.serve(queue, port, self._native, mergeable=bool(self._accepted & MRG_RXBUF))
        except OSError as error:
            self._lose(port, error)
            return False
        if receiver.starved:
            self._unwatch(port.fd)  # and the driver's next buffers bring us here again
        else:
            self._watch(port.fd, partial(self._frame_came, pair))
        return more

    def _send(self, pair: int, queue: Virtqueue) -> bool:
        ports = self._ports()
        sender = self.senders[pair]
        port = ports[min(pair, len(ports) - 1)] if ports else None
        more = sender.serve(queue, port, self._native)
        if sender.blocked and port is not None:
            self._watch(port.room_fd, partial(self._room_came, port))
        return more

    def _ports(self) -> Sequence[Port]:
        return self.backend.ports if self.backend is not None else ()

    def _frame_came(self, pair: int) -> None:
        """On the reactor's thread, as the next two."""
        with self.transport.lock:
            there = self.transport.queue(2 * pair) is not None
        if there:
            self.transport.serve(2 * pair)
        else:  # the frames wait for a driver, which kicks when it is there
            self._unwatch(self._ports()[pair].fd)

    def _room_came(self, port: Port) -> None:
        self._unwatch(port.room_fd)
        for pair, sender in enumerate(self.senders):
            if sender.blocked:
                sender.blocked = False
                self.transport.serve(2 * pair + 1)

    def _lose(self, port: Port, error: OSError) -> None:
        """The other end of the cable has gone."""
        log.warning("network card %s: %s: the link is down", self.mac.hex(":"), error.strerror or error)
        self._unwatch(port.fd)
        self.backend = None
        self.transport.config_changed()

    # -- the reactor -----------------------------------------------------------------------------------

    def attached(self, reactor: Reactor) -> None:
        """Ports are watched as soon as their queues are served, which the transport sees to."""
        self._reactor = reactor
        self._native = NativePath.of(self.transport.memory)

    def detached(self, reactor: Reactor) -> None:
        """Watch nothing any more."""
        for fd in tuple(self._watched):
            self._unwatch(fd)
        self._reactor = self._native = None
        for sender in self.senders:
            sender.blocked = False

    def _watch(self, fd: int, ready: partial[None]) -> None:
        if self._reactor is not None and fd not in self._watched:
            self._watched.add(fd)
            self._reactor.watch(fd, ready)

    def _unwatch(self, fd: int) -> None:
        if self._reactor is not None and fd in self._watched:
            self._watched.remove(fd)
            self._reactor.unwatch(fd)

    # -- state -----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The driver's wishes are forgotten, and what it had offered with them."""
        self._clear()
        self._tell_backend()

    def close(self) -> None:
        """Let go of the guest's memory; the backend is its owner's to close."""
        self._clear()

    def backend_facts(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`."""
        return {"link": "up" if self.link_up else "down"}

    def save(self) -> dict[str, Any]:
        """The driver's wishes and the chains in hand; a frame half way to the guest is lost."""
        return {
            "mac": self.mac.hex(),
            "pairs": self.pairs,
            "offloads": self.offloads,
            "receiving": [receiver.heads() for receiver in self.receivers],
            "sending": [sender.heads() for sender in self.senders],
        }

    def load(self, version: int, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave, after the transport's own state."""
        self.mac = bytes.fromhex(state["mac"])
        self.pairs, self.offloads = state["pairs"], state["offloads"]
        for receiver, heads in zip(self.receivers, state["receiving"], strict=True):
            receiver.load(heads)
        for sender, heads in zip(self.senders, state["sending"], strict=True):
            sender.load(heads)
        self._tell_backend()

    def _clear(self) -> None:
        self.mac = self._own_mac
        self.pairs = 1
        self.offloads = 0
        self._accepted = 0
        for receiver, sender in zip(self.receivers, self.senders, strict=True):
            receiver.reset()
            sender.reset()

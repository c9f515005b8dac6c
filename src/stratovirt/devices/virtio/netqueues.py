"""Frames into a receive queue and out of a transmit queue, without a copy between (virtio 1.2 §5.1.6).

The law: a port is never waited for. What it has not room for stays in hand, and what the driver has not room
for stays in the port. Where a port's descriptor holds whole frames, C passes them as long as there is nothing
to it: each direction begins with that, and the rest is for what C leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stratovirt.devices.virtio.netnative import NativePath
from stratovirt.devices.virtio.queue import BrokenQueue, Chain, Virtqueue, cut
from stratovirt.native.net import Passed

HEADER = 12  # struct virtio_net_hdr_v1; its last 16 bits say how many buffers a received frame fills
NUM_BUFFERS = 10
ETHERNET_HEADER = 14
MAX_FRAME = HEADER + ETHERNET_HEADER + 4 + 0xFFFF
"""An IP packet of 64 KiB, with a VLAN tag."""


class Port(Protocol):
    """One end of a network backend's cable; a frame has a header of 12 bytes in front.

    :ivar fd: readable when a frame has come.
    :ivar room_fd: readable when a frame can be sent.
    :ivar direct: readv(2) of ``fd`` gives one frame with its header, and writev(2) takes one.
    """

    @property
    def fd(self) -> int: ...

    @property
    def room_fd(self) -> int: ...

    @property
    def direct(self) -> bool: ...

    def receive(self, into: Sequence[memoryview]) -> int:
        """Store the next frame; its length, or 0 when there is none now.

        :raises OSError: the other end has gone.
        """

    def send(self, frame: Sequence[memoryview]) -> bool:
        """Send a frame; False: there is no room now, and this frame is offered again before any other.

        :raises OSError: this frame cannot be sent; the next may be.
        """


@dataclass
class Counters:
    """What has passed a queue since the start."""

    frames: int = 0
    bytes: int = 0
    dropped: int = 0

    def add(self, passed: Passed) -> None:
        """Count what C has passed."""
        self.frames += passed.frames
        self.bytes += passed.bytes


class Receiver:
    """The port's frames, into the buffers of one receive queue.

    :ivar starved: no frame can be taken before the driver offers more buffers.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self._overflow = memoryview(bytearray(MAX_FRAME))
        self.reset()

    def reset(self) -> None:
        """Forget the driver's buffers."""
        self.starved = False
        self._queue: Virtqueue | None = None
        self._saved: list[int] = []
        self._forget()

    def serve(self, queue: Virtqueue, port: Port, native: NativePath | None, *, mergeable: bool) -> bool:
        """Take one frame, or several by ``native``; False: there is none, or no room.

        :raises BrokenQueue: the driver broke a rule.
        :raises OSError: the port has no other end any more.
        """
        if queue is not self._queue:
            self._begin(queue)
        if native is not None and port.direct and not self._waiting:
            self._put_back(queue)
            passed = native.receive(queue, port.fd, mergeable=mergeable)
            self.counters.add(passed)
            if passed.frames or passed.idle:
                self.starved = False
                return not passed.idle
        self._collect(queue)
        self.starved = not self._chains
        if self.starved or not (self._waiting or self._read(port, mergeable)):
            return False
        return self._deliver(queue, self._room if mergeable else self._chains[0].writable_length)

    def heads(self) -> list[int]:
        """Of the chains in hand, for a snapshot."""
        return self._saved or [chain.head for chain in self._chains]

    def load(self, heads: list[int]) -> None:
        """Have these chains in hand."""
        self._saved = heads

    def _forget(self) -> None:
        self._chains: deque[Chain] = deque()
        self._segments: list[memoryview] = []  # of all chains in hand
        self._room = 0  # bytes in them
        self._waiting = 0  # length of a frame that has been read and is not the driver's yet
        self._overflowed = 0  # how much of its end is in the overflow

    def _begin(self, queue: Virtqueue) -> None:
        """The driver has enabled the queue, or a snapshot has been restored."""
        self._forget()
        self._queue = queue
        for head in self._saved:
            self._hold(queue.chain_at(head))
        self._saved = []

    def _put_back(self, queue: Virtqueue) -> None:
        """Have nothing in hand."""
        queue.put_back(len(self._chains))
        self._forget()

    def _collect(self, queue: Virtqueue) -> None:
        """Have buffers in hand for the largest frame, if the driver has offered so many."""
        while self._room < MAX_FRAME and (chain := queue.pop()):
            self._hold(chain)

    def _hold(self, chain: Chain) -> None:
        if not chain.writable:
            raise BrokenQueue("a receive buffer that cannot be written to")
        self._chains.append(chain)
        self._segments += chain.writable
        self._room += chain.writable_length

    def _read(self, port: Port, mergeable: bool) -> int:
        """Read a frame into the driver's buffers, and behind them what they have no room for."""
        segments = self._segments if mergeable else self._chains[0].writable
        room = self._room if mergeable else self._chains[0].writable_length
        self._waiting = port.receive([*segments, self._overflow])
        self._overflowed = max(self._waiting - room, 0)
        return self._waiting

    def _deliver(self, queue: Virtqueue, room: int) -> bool:
        """Give the driver the frame that waits; False: it has to offer more buffers first."""
        if self._waiting > room:
            self.starved = room == self._room and len(self._chains) < queue.size
            if not self.starved:  # it can never fit
                self._waiting = 0
                self.counters.dropped += 1
            return not self.starved
        if self._overflowed:
            self._move_overflow()
        self._push(queue)
        return True

    def _move_overflow(self) -> None:
        at = self._waiting - self._overflowed
        done = 0
        for part in cut(self._segments, at, self._overflowed):
            part[:] = self._overflow[done : done + len(part)]
            done += len(part)
        self._overflowed = 0

    def _push(self, queue: Virtqueue) -> None:
        used, left, segments = [], self._waiting, 0
        while left > 0:
            chain = self._chains.popleft()
            used.append((chain, left))
            left -= chain.writable_length
            segments += len(chain.writable)
            self._room -= chain.writable_length
        del self._segments[:segments]
        used[0][0].write(len(used).to_bytes(2, "little"), NUM_BUFFERS)
        queue.push_together(used)
        self.counters.frames += 1
        self.counters.bytes += self._waiting - HEADER
        self._waiting = 0


class Sender:
    """One transmit queue's frames, into the port.

    :ivar blocked: the port has no room for the frame in hand.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self.reset()

    def reset(self) -> None:
        """Forget the frame in hand."""
        self.blocked = False
        self._queue: Virtqueue | None = None
        self._chain: Chain | None = None
        self._saved: list[int] = []

    def serve(self, queue: Virtqueue, port: Port | None, native: NativePath | None) -> bool:
        """Send one frame, or several by ``native``; False: there is none, or no room.

        Without a port frames are dropped.

        :raises BrokenQueue: the driver broke a rule.
        """
        if self.blocked and port is not None:
            return False
        if queue is not self._queue:
            self._begin(queue)
        if native is not None and port is not None and port.direct and self._chain is None:
            passed, more = native.send(queue, port.fd)
            self.counters.add(passed)
            if passed.frames:
                return more
        chain = self._chain or queue.pop()
        if chain is None:
            return False
        self.blocked = not self._send(chain, port)
        self._chain = chain if self.blocked else None
        if not self.blocked:
            queue.push(chain)
        return not self.blocked

    def heads(self) -> list[int]:
        """Of the chain in hand, for a snapshot."""
        return self._saved or ([self._chain.head] if self._chain is not None else [])

    def load(self, heads: list[int]) -> None:
        """Have this chain in hand."""
        self._saved = heads

    def _begin(self, queue: Virtqueue) -> None:
        self._queue = queue
        self._chain = queue.chain_at(self._saved[0]) if self._saved else None
        self._saved = []

    def _send(self, chain: Chain, port: Port | None) -> bool:
        """Send or drop; False: there is no room now."""
        length = chain.readable_length
        try:
            if port is None or not HEADER + ETHERNET_HEADER <= length <= MAX_FRAME:
                self.counters.dropped += 1
            elif port.send(chain.readable):
                self.counters.frames += 1
                self.counters.bytes += length - HEADER
            else:
                return False
        except OSError:  # an interface that is down, or a header that makes no sense
            self.counters.dropped += 1
        return True

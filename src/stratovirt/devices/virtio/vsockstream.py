"""One vsock connection between the guest and a socket of the host's: its protocol, without queues.

The law: nothing here waits. What the host does not take is kept, never more than the guest was told that
there is room for; what the guest has no room for stays in the host's socket. Source: virtio 1.2 §5.10.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

from stratovirt.devices.virtio.queue import Chain, cut
from stratovirt.devices.virtio.vsockpacket import HEADER_SIZE, HOST_CID, Credit, Header, Op, Shut

BUFFER = 64 << 10
"""Bytes that a stream keeps for a host that does not take them; Firecracker's CONN_TX_BUF_SIZE."""


class HostEnd(Protocol):
    """The host's end of a connection, a socket that nobody waits for.

    :ivar fd: readable when there is something to receive, writable when something can be sent.
    """

    @property
    def fd(self) -> int: ...

    def receive(self, into: Sequence[memoryview]) -> int | None:
        """Store what has come; how many bytes. None: nothing now, 0: nothing any more.

        :raises OSError: the connection is broken.
        """

    def send(self, data: Sequence[memoryview | bytes]) -> int:
        """Send as much as there is room for; how many bytes.

        :raises OSError: there is nobody at the other end.
        """

    def is_gone(self) -> bool:
        """Does nobody receive at the other end, either?"""

    def accepted(self, port: int) -> None:
        """The guest has accepted the connection, which has this port on the host's side.

        :raises OSError: there is nobody at the other end.
        """

    def shut(self, what: Shut) -> None:
        """Receive or send no more."""

    def close(self) -> None: ...


class Key(NamedTuple):
    """The ports of a connection: one connection has both."""

    host: int
    guest: int


class State(Enum):
    """Of a stream."""

    CONNECTING = auto()  # the guest has not answered yet
    OPEN = auto()
    ENDED = auto()  # for the guest; what it had sent may still wait for the host


class Broken(Exception):
    """The connection cannot go on: the guest gets a RST, the host's end is closed."""


class Stream:
    """A connection; the guest asked for it if ``request`` is given, the host otherwise.

    :param guest_cid: the guest's address.
    :param host: owned from now on.
    :ivar readable: the host may have something for the guest.
    """

    def __init__(self, key: Key, guest_cid: int, host: HostEnd, request: Header | None = None) -> None:
        self.key = key
        self.host = host
        self.state = State.OPEN if request else State.CONNECTING
        self.readable = False
        self._guest_cid = guest_cid
        self._credit = Credit(BUFFER)
        self._kept = bytearray()  # from the guest, for the host
        self._guest_shut = self._host_shut = Shut.NOTHING
        self._due: list[Op] = [Op.RESPONSE if request else Op.REQUEST]
        if request:
            self._credit.hear(request)

    # -- what to watch and to serve ----------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Would the guest get what the host sends now?"""
        shut = self._guest_shut & Shut.RECEIVE or self._host_shut & Shut.SEND
        return self.state is State.OPEN and not shut and self._credit.room() > 0

    @property
    def wants_room(self) -> bool:
        """Is there something that the host has not taken?"""
        return bool(self._kept)

    @property
    def is_unheard_of(self) -> bool:
        """Has the guest not been asked for it yet?"""
        return Op.REQUEST in self._due

    @property
    def has_packet(self) -> bool:
        """May :meth:`fill` have a packet for the guest?"""
        return bool(self._due) or (self.readable and self.wants_input)

    # -- from the guest ----------------------------------------------------------------------------------

    def hear(self, header: Header, payload: Sequence[memoryview]) -> None:
        """A packet of the guest's for this stream, other than RST. The guest has ended it: ``state`` says so.

        :raises Broken: it is against the rules, or the host's end is.
        """
        self._credit.hear(header)
        match header.op:
            case Op.RESPONSE if self.state is State.CONNECTING:
                self._accept()
            case Op.RW if self.state is State.OPEN and not self._guest_shut & Shut.SEND:
                self._take(payload)
            case Op.SHUTDOWN if self.state is State.OPEN:
                self._shut(Shut(header.flags & Shut.BOTH))
            case Op.CREDIT_UPDATE:
                pass
            case Op.CREDIT_REQUEST:
                self._owe(Op.CREDIT_UPDATE)
            case _:
                raise Broken

    def flush(self) -> None:
        """The host may take more of what was kept for it.

        :raises Broken: there is no host any more.
        """
        with memoryview(self._kept) as kept:
            sent = self._send([kept])
        del self._kept[:sent]
        self._pass_on_shut()

    def _accept(self) -> None:
        try:
            self.host.accepted(self.key.host)
        except OSError as error:
            raise Broken from error
        self.state = State.OPEN
        self.readable = True

    def _take(self, payload: Sequence[memoryview]) -> None:
        if self._host_shut & Shut.RECEIVE:
            raise Broken
        sent = 0 if self._kept else self._send(payload)
        rest = cut(list(payload), sent, sum(map(len, payload)) - sent)
        if len(self._kept) + sum(map(len, rest)) > BUFFER:
            raise Broken  # more than it was told that there is room for
        for part in rest:
            self._kept += part

    def _send(self, data: Sequence[memoryview]) -> int:
        try:
            sent = self.host.send(data)
        except OSError as error:
            raise Broken from error
        self._credit.consume(sent)
        if self._credit.is_stale() and self.state is State.OPEN:
            self._owe(Op.CREDIT_UPDATE)
        return sent

    def _shut(self, what: Shut) -> None:
        self._guest_shut |= what
        if self._guest_shut == Shut.BOTH:
            self.state = State.ENDED
            self._due.clear()
        elif what & Shut.RECEIVE:
            self.host.shut(Shut.RECEIVE)
        self._pass_on_shut()

    def _pass_on_shut(self) -> None:
        """Behind the last byte that the guest has sent."""
        if self._guest_shut & Shut.SEND and not self._kept:
            self.host.shut(Shut.SEND)

    # -- to the guest ------------------------------------------------------------------------------------

    def fill(self, chain: Chain) -> int:
        """Store the next packet in a buffer with more room than a header takes; its length, 0: there is none.

        :raises Broken: the host's end is.
        """
        if not self._due and self.readable and self.wants_input:
            length = self._receive(cut(chain.writable, HEADER_SIZE, self._credit.room()))
            if length:
                self._credit.spend(length)
                return chain.write(self._header(Op.RW, length=length).pack()) + length
        return chain.write(self._header(self._due.pop(0)).pack()) if self._due else 0

    def _receive(self, into: Sequence[memoryview]) -> int:
        """Bytes for the guest; 0: there are none now, or never again, which is owed to the guest then."""
        try:
            length = self.host.receive(into)
        except OSError as error:
            raise Broken from error
        if length is None:
            self.readable = False
        elif length == 0:
            self._host_shut |= Shut.BOTH if self.host.is_gone() else Shut.SEND
            self._owe(Op.SHUTDOWN)
        return length or 0

    def _owe(self, op: Op) -> None:
        if op not in self._due:
            self._due.append(op)

    def _header(self, op: Op, length: int = 0) -> Header:
        if Op.CREDIT_UPDATE in self._due:  # every packet is one
            self._due.remove(Op.CREDIT_UPDATE)
        flags = self._host_shut if op is Op.SHUTDOWN else 0
        header = Header(HOST_CID, self._guest_cid, *self.key, length=length, op=op, flags=flags)
        return self._credit.stamp(header)

"""What vsock tests share: a host's end with as much room as it is told, and buffers as a guest has them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from stratovirt.backends.vsock import UnixEnd
from stratovirt.devices.virtio.queue import Chain
from stratovirt.devices.virtio.vsockpacket import HEADER_SIZE, Header, Op, Shut
from stratovirt.devices.virtio.vsockstream import Key, Stream

GUEST_CID = 42
GUEST_PORT, HOST_PORT = 1024, 52


class FakeHostEnd:
    """A host's end with ``limit`` bytes of room for what it has not read yet.

    :ivar got: what the guest has sent, in the socket.
    :ivar waiting: what the host has sent and the guest has not taken.
    """

    fd = -1

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.got = bytearray()
        self.waiting = bytearray()
        self.ended = self.gone = self.broken = self.closed = False
        self.shuts: list[Shut] = []
        self.port = 0

    def receive(self, into: Sequence[memoryview]) -> int | None:
        self._check()
        if not self.waiting:
            return 0 if self.ended else None
        done = 0
        for part in into:
            data = self.waiting[: len(part)]
            part[: len(data)] = data
            del self.waiting[: len(data)]
            done += len(data)
        return done

    def send(self, data: Sequence[memoryview | bytes]) -> int:
        self._check()
        taken = b"".join(data)[: max(self.limit - len(self.got), 0)]
        self.got += taken
        return len(taken)

    def is_gone(self) -> bool:
        return self.gone

    def accepted(self, port: int) -> None:
        self._check()
        self.port = port

    def shut(self, what: Shut) -> None:
        self.shuts.append(what)

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.broken:
            raise BrokenPipeError


class PairHost:
    """The host's side, with socketpairs: the far ends are the test's.

    :ivar dialled: far ends of what the guest has connected to; ports not in ``listens`` refuse.
    :ivar ends: near ends, those of callers too.
    """

    def __init__(self, listens: Sequence[int] = (HOST_PORT,)) -> None:
        self._knocks, self._knock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._knocks.setblocking(False)
        self.fd = self._knocks.fileno()
        self.listens = listens
        self.accepted: list[socket.socket] = []
        self.dialled: list[socket.socket] = []
        self.failure = 0
        self.ends: list[UnixEnd] = []
        self._far: list[socket.socket] = []

    def accept(self) -> UnixEnd | None:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        self._knocks.recv(1)
        return self._end(self.accepted.pop(0))

    def dial(self, port: int) -> UnixEnd:
        if port not in self.listens:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        near, far = self._pair()
        self.dialled.append(far)
        return self._end(near)

    def call(self, line: bytes) -> socket.socket:
        """Somebody of the host's connects and says ``line``; the far end."""
        near, far = self._pair()
        far.sendall(line)
        self.accepted.append(near)
        self._knock.send(b"x")
        return far

    def _end(self, near: socket.socket) -> UnixEnd:
        self.ends.append(UnixEnd(near))
        return self.ends[-1]

    def close(self) -> None:
        for one in (self._knocks, self._knock, *self._far, *self.accepted):
            one.close()

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair()
        far.settimeout(10)
        self._far.append(far)
        return near, far


def from_guest(op: int, length: int = 0, flags: int = 0, alloc: int = 1 << 18, consumed: int = 0) -> Header:
    return Header(
        GUEST_CID,
        2,
        GUEST_PORT,
        HOST_PORT,
        length=length,
        op=op,
        flags=flags,
        buf_alloc=alloc,
        fwd_cnt=consumed,
    )


def buffer(*sizes: int) -> Chain:
    """A receive buffer of these parts."""
    chain = Chain(0)
    for size in sizes:
        chain.writable.append(memoryview(bytearray(size)))
        chain.writable_length += size
    return chain


def filled(stream: Stream, size: int = 4096) -> tuple[Header, bytes] | None:
    """The stream's next packet for the guest, if it has one."""
    chain = buffer(HEADER_SIZE, size)
    length = stream.fill(chain)
    if not length:
        return None
    data = b"".join(chain.writable)[:length]
    return Header.unpack(data[:HEADER_SIZE]), data[HEADER_SIZE:]


def packets(stream: Stream) -> list[tuple[Header, bytes]]:
    """All that the stream has for the guest now."""
    found = []
    while stream.has_packet and (packet := filled(stream)):
        found.append(packet)
    return found


def opened(host: FakeHostEnd, alloc: int = 1 << 18) -> Stream:
    """A stream that the guest has asked for and knows to be open."""
    stream = Stream(Key(HOST_PORT, GUEST_PORT), GUEST_CID, host, from_guest(Op.REQUEST, alloc=alloc))
    [(header, _)] = packets(stream)
    assert header.op == Op.RESPONSE
    return stream

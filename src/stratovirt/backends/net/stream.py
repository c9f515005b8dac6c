"""Frames over a stream socket, each behind its length: how QEMU, and what connects to it, speak of networks.

The other end knows of no virtio-net header. So a checksum that the guest left out is filled in here; what the
guest sends larger than the MTU, to be cut on the way, goes as the one large IP packet that it is.

Source: QEMU, net/stream.c; passt(1).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from stratovirt.backends.net.checksum import HEADER, missing
from stratovirt.backends.room import Room

LENGTH = 4  # bytes, big-endian
MAX_FRAME = 0xFFFF
"""The longest that passt takes (its L2_MAX_LEN_PASST); Linux's largest TCP segment is 300 bytes shorter."""
BUFFER = 4 * (LENGTH + MAX_FRAME)

NO_HEADER = bytes(HEADER.size)  # a complete frame


class StreamPort:
    """One end of a stream of frames. Implements :class:`stratovirt.devices.virtio.netqueues.Port`.

    :param connection: owned from now on.
    """

    direct = False

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._room = Room(connection.fileno())
        self.fd, self.room_fd = connection.fileno(), self._room.fd
        self._buffer = memoryview(bytearray(BUFFER))
        self._start = self._end = 0  # of what has come and is not taken yet
        self._unsent = b""  # the rest of the frame in hand, of which a part has been sent

    def receive(self, into: Sequence[memoryview]) -> int:
        """Store the next frame behind a header; its length with that, or 0 when there is none now.

        :raises OSError: the other end has closed the stream, or broken its rules.
        """
        while (frame := self._frame()) is None:
            if not self._fill():
                return 0
        data = memoryview(b"".join((NO_HEADER, frame)))
        done = 0
        for segment in into:
            part = data[done : done + len(segment)]
            segment[: len(part)] = part
            done += len(part)
            if done == len(data):
                break
        return done

    def send(self, frame: Sequence[memoryview]) -> bool:
        """Send a frame; False: there is not room for all of it now; ``room_fd`` is readable when there is.

        :raises OSError: it is too long, its header makes no sense, or there is no other end any more.
        """
        parts = [self._unsent] if self._unsent else _framed(b"".join(frame))
        try:
            sent = self._connection.sendmsg(parts)
        except BlockingIOError:
            return False
        self._unsent = b"".join(parts)[sent:] if sent < sum(map(len, parts)) else b""
        return not self._unsent

    def close(self) -> None:
        """Close the stream."""
        self._room.close()
        self._connection.close()

    def _frame(self) -> memoryview | None:
        """The first frame that has come whole."""
        have = self._end - self._start
        if have < LENGTH:
            return None
        length = int.from_bytes(self._buffer[self._start : self._start + LENGTH], "big")
        if length > MAX_FRAME:
            raise OSError(errno.EPROTO, f"a frame of {length} bytes has come")
        if have < LENGTH + length:
            return None
        begin = self._start + LENGTH
        self._start = begin + length
        return self._buffer[begin : self._start]

    def _fill(self) -> bool:
        """Read what there is room for; False: nothing has come."""
        rest = self._end - self._start
        self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start, self._end = 0, rest
        try:
            count = self._connection.recv_into(self._buffer[rest:])
        except BlockingIOError:
            return False
        if not count:
            raise OSError(errno.EPIPE, "its other end is closed")
        self._end += count
        return True


def _framed(data: bytes) -> list[bytes | memoryview]:
    """A frame with its header as it goes over the stream.

    :raises OSError: it cannot.
    """
    frame = memoryview(data)[HEADER.size :]
    if len(frame) > MAX_FRAME:
        raise OSError(errno.EMSGSIZE, f"a frame of {len(frame)} bytes")
    length = len(frame).to_bytes(LENGTH, "big")
    patch = missing(data[: HEADER.size], frame)
    if patch is None:
        return [length, frame]
    return [length, frame[: patch.at], patch.checksum, frame[patch.at + len(patch.checksum) :]]

"""File descriptors that clients pass: on their way in, and those that have got a name.

The law: each descriptor has one owner that closes it: first the client that sent it, then, by ``getfd``,
the machine, then the command that takes it. None survives its owner.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from array import array
from collections import deque
from collections.abc import Iterable

import trio

from stratovirt.errors import CommandError
from stratovirt.qmp.protocol.messages import quote

log = logging.getLogger(__name__)

# Descriptors in one message at most: SCM_MAX_FD of unix(7).
MAX_IN_MESSAGE = 253
# Descriptors of one client that wait for a name. Precedent: QEMU's TCP_MAX_FDS, per message.
MAX_WAITING = 16
# Descriptors with a name, so that clients cannot eat those that disks need; a network card of 16 queue
# pairs with vhost takes 32.
MAX_NAMED = 256

_ANCILLARY = socket.CMSG_SPACE(MAX_IN_MESSAGE * array("i").itemsize)


class Received:
    """What one client has sent and nobody has named: first in, first out."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, fds: Iterable[int]) -> None:
        """Own ``fds``; what is beyond the limit is closed at once."""
        self._waiting.extend(fds)
        if excess := len(self._waiting) - MAX_WAITING:
            self._close_last(excess)

    def take(self) -> int | None:
        """The oldest, which is the caller's from now on; None if there is none."""
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Close all that are left."""
        _close(self._waiting)
        self._waiting.clear()

    def _close_last(self, count: int) -> None:
        if count > 0:
            log.warning("%d descriptors are closed: a client may have %d without a name", count, MAX_WAITING)
            _close(self._waiting.pop() for _ in range(count))


class Named:
    """The machine's descriptors by name; they outlive the clients that sent them."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._fds)

    def put(self, name: str, fd: int) -> None:
        """Own ``fd`` as ``name``; the one that had this name before is closed.

        :raises CommandError: there are too many; ``fd`` is closed.
        """
        replaced = self._fds.pop(name, None)
        if replaced is not None:
            os.close(replaced)
        if len(self._fds) == MAX_NAMED:
            os.close(fd)
            raise CommandError(
                f"getfd: no name for {quote(name)}: {MAX_NAMED} descriptors have names already"
            )
        self._fds[name] = fd

    def take(self, command: str, name: str) -> int:
        """The descriptor called ``name``, which is the caller's from now on.

        :raises CommandError: there is none.
        """
        if name not in self._fds:
            raise CommandError(f"{command}: file descriptor named {quote(name)} not found")
        return self._fds.pop(name)

    def close(self) -> None:
        """Close all of them."""
        _close(self._fds.values())
        self._fds.clear()


class RightsStream(trio.abc.HalfCloseableStream):
    """A unix socket's stream that keeps the descriptors that come with its bytes.

    :ivar received: those that wait for a name; their owner closes it.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.received = Received()
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes; descriptors that came with them are in ``received`` by then."""
        try:
            data, ancillary, flags, _ = await self._stream.socket.recvmsg(
                max_bytes or 1 << 16, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            gone = error.errno == errno.EBADF  # closed at this end
            raise (trio.ClosedResourceError if gone else trio.BrokenResourceError) from error
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.received.add(_descriptors(payload))
        if flags & socket.MSG_CTRUNC:
            log.warning("descriptors are lost: this process has too many open files")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See :class:`trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


def with_rights(stream: trio.abc.Stream) -> trio.abc.Stream:
    """``stream``, wrapped if it can carry descriptors."""
    if isinstance(stream, trio.SocketStream) and stream.socket.family == socket.AF_UNIX:
        return RightsStream(stream)
    return stream


def _descriptors(payload: bytes) -> list[int]:
    fds = array("i")
    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)

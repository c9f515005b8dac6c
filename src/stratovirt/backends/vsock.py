"""The host's side of a vsock device: unix sockets, as Firecracker has them.

Who connects to the socket and writes ``CONNECT PORT`` and a newline is connected to that port of the guest's,
and reads ``OK HOSTPORT`` when the guest has accepted. What the guest connects to, port P of CID 2, is the
socket at the path with ``_P`` behind it.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from collections.abc import Sequence
from contextlib import suppress

MAX_LINE = 32
"""Of a CONNECT, with its newline; Firecracker's."""
LAST_PORT = (1 << 32) - 2
"""The next is VMADDR_PORT_ANY, which is none."""
SHARE_OF_OTHERS = 8
"""One in so many of the process's file descriptors is for no connection: a guest that opens all it can leaves
some to monitors, disks and snapshots."""

_RECEIVE, _SEND = 1, 2  # of §5.10.6's SHUTDOWN


class UnixEnd:
    """One connection. Implements :class:`stratovirt.devices.virtio.vsock.Caller`.

    :param connection: owned from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._line = bytearray()
        self.fd = connection.fileno()

    def receive(self, into: Sequence[memoryview]) -> int | None:
        """See :class:`HostEnd`."""
        try:
            return self._connection.recvmsg_into(into)[0]
        except BlockingIOError:
            return None

    def send(self, data: Sequence[memoryview | bytes]) -> int:
        """See :class:`HostEnd`."""
        try:
            return self._connection.sendmsg(data)
        except BlockingIOError:
            return 0

    def is_gone(self) -> bool:
        """See :class:`HostEnd`."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(0))  # nothing was asked for, so it is POLLHUP or POLLERR

    def accepted(self, port: int) -> None:
        """See :class:`HostEnd`; a socket that nothing has been written to has room for a line."""
        self._connection.send(b"OK %d\n" % port)

    def shut(self, what: int) -> None:
        """See :class:`HostEnd`."""
        with suppress(OSError):  # there is no other end any more
            if what & _RECEIVE:
                self._connection.shutdown(socket.SHUT_RD)
            if what & _SEND:
                self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See :class:`HostEnd`."""
        self._connection.close()

    def port(self) -> int | None:
        """See :class:`Caller`; of what follows the line nothing is taken."""
        try:
            seen = self._connection.recv(MAX_LINE - len(self._line), socket.MSG_PEEK)
        except BlockingIOError:
            return None
        if not seen:
            raise OSError(errno.ECONNRESET, "it has gone before it said which port it wants")
        line, newline, _ = seen.partition(b"\n")
        self._line += self._connection.recv(len(line + newline))
        if newline:
            return _parse(bytes(self._line))
        if len(self._line) == MAX_LINE:
            raise _nonsense(bytes(self._line))
        return None


class UnixHost:
    """Implements :class:`stratovirt.devices.virtio.vsock.VsockHost`.

    :param listener: bound to ``path``, and listening; stays its owner's.
    """

    def __init__(self, listener: socket.socket, path: str) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._path = path
        self.fd = listener.fileno()

    def accept(self) -> UnixEnd | None:
        """See :class:`VsockHost`."""
        _leave_some(self.fd)
        try:
            return UnixEnd(self._listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            return None

    def dial(self, port: int) -> UnixEnd:
        """See :class:`Dialler`; a socket whose backlog is full refuses, for nobody waits here."""
        _leave_some(self.fd)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(f"{self._path}_{port}")
        except OSError:
            connection.close()
            raise
        return UnixEnd(connection)


def _leave_some(fd: int) -> None:
    """Is there a descriptor for a connection? Linux gives the lowest that is free: a high one is of the last.

    :param fd: any that is open.
    :raises OSError: there is none.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(fd)
    os.close(lowest)
    if lowest >= limit - limit // SHARE_OF_OTHERS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _parse(line: bytes) -> int:
    match line.split():
        case [word, number] if word.upper() == b"CONNECT" and number.isdigit() and int(number) <= LAST_PORT:
            return int(number)
    raise _nonsense(line)


def _nonsense(line: bytes) -> OSError:
    return OSError(errno.EPROTO, f"{os.fsdecode(line)!r} is no CONNECT with a port")

"""Talking to a process that serves a device's queues: the front end's half of vhost-user (QEMU,
docs/interop/vhost-user.rst).

The law: that process maps guest memory, so it is trusted with it; but it may be slow, wrong or gone. Every
call has a deadline, and what goes wrong is an OSError.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

GREETING_SECONDS = 5.0
"""For the process to begin to serve us: nothing waits for it yet but the start."""
CALL_SECONDS = 1.0
"""For each call after that: a guest's CPU waits for it. Who stops queues has to end what it has in hand."""

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = range(8, 14)

_HEADER = struct.Struct("<III")  # request, flags, bytes that follow
_VERSION, _REPLY = 1, 4
_U64 = struct.Struct("<Q")
_STATE = struct.Struct("<II")  # queue, number
_ADDRESSES = struct.Struct("<IIQQQQ")  # queue, flags, descriptors, used, available, log
_COUNT = struct.Struct("<II")  # regions, padding
_REGION = struct.Struct("<QQQQ")  # guest address, size, our address, offset in the file

MAX_REGIONS = 8
"""Of one message (VHOST_MEMORY_BASELINE_NREGIONS)."""

Region = tuple[int, int, int, int]
"""Guest address, size, file descriptor and offset in the file of memory that the process is to map."""


class VhostUser:
    """One connection.

    Addresses in messages are guest addresses, also where the protocol wants ours: they have to agree with
    those that :meth:`share` gives, and no more.

    :param connection: to the process, which listens for it; closed by :meth:`close`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = 0.0

    @property
    def fd(self) -> int:
        """Readable when the process has gone: it says nothing unless it is asked."""
        return self._connection.fileno()

    def has_gone(self) -> bool:
        """Has the process ended, or the connection? Does not wait, nor take what another thread waits for."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return bool(poll.poll(0))

    def features(self) -> int:
        """What the process offers, ring features included.

        :raises OSError: it does not answer as it should.
        """
        self._begin(GREETING_SECONDS)
        self._send(SET_OWNER)
        self._send(GET_FEATURES)
        (features,) = _U64.unpack(self._answer(GET_FEATURES, _U64.size))
        return int(features)

    def share(self, features: int, regions: Sequence[Region]) -> None:
        """Begin anew: these features, and this memory.

        :raises OSError: the process has gone or does not listen, or there are too many regions.
        """
        self._begin(CALL_SECONDS)
        if len(regions) > MAX_REGIONS:
            raise OSError(errno.E2BIG, f"memory in {len(regions)} regions, {MAX_REGIONS} can be told of")
        self._send(SET_FEATURES, _U64.pack(features))
        table = b"".join(_REGION.pack(gpa, size, gpa, offset) for gpa, size, _, offset in regions)
        self._send(SET_MEM_TABLE, _COUNT.pack(len(regions), 0) + table, [fd for _, _, fd, _ in regions])

    def start(
        self, queue: int, size: int, descriptors: int, available: int, used: int, *, kick: int, call: int
    ) -> None:
        """Let the process serve a queue with rings at these addresses, from their beginning.

        :param kick: eventfd that tells it of available buffers.
        :param call: eventfd by which it tells of used ones.
        :raises OSError: it has gone, or does not listen.
        """
        self._begin(CALL_SECONDS)
        self._send(SET_VRING_NUM, _STATE.pack(queue, size))
        self._send(SET_VRING_BASE, _STATE.pack(queue, 0))
        self._send(SET_VRING_ADDR, _ADDRESSES.pack(queue, 0, descriptors, used, available, 0))
        self._send(SET_VRING_CALL, _U64.pack(queue), [call])
        self._send(SET_VRING_KICK, _U64.pack(queue), [kick])

    def stop(self, queues: Iterable[int]) -> None:
        """Wait until the process has done what it has in hand, and looks at these queues no more.

        :raises OSError: it has gone, or does not answer in time.
        """
        self._begin(CALL_SECONDS)
        for queue in queues:
            self._send(GET_VRING_BASE, _STATE.pack(queue, 0))
            self._answer(GET_VRING_BASE, _STATE.size)

    def hang_up(self) -> None:
        """End the connection; :attr:`fd` becomes readable."""
        with suppress(OSError):  # the process was faster
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close our end. Idempotent."""
        self._connection.close()

    def _begin(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def _hurry(self) -> None:
        """Let the next call on the connection end when the deadline has come.

        :raises TimeoutError: it has.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def _send(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        message = _HEADER.pack(request, _VERSION, len(payload)) + payload
        self._hurry()
        socket.send_fds(self._connection, [message], fds)  # whole: a message is shorter than any buffer

    def _answer(self, request: int, length: int) -> bytes:
        answered, flags, size = _HEADER.unpack(self._receive(_HEADER.size))
        if (answered, flags & _REPLY, size) != (request, _REPLY, length):
            raise OSError(errno.EPROTO, f"it answers request {request} with {answered}, {size} bytes")
        return self._receive(size)

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            self._hurry()
            more = self._connection.recv(length - len(data))
            if not more:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            data += more
        return data

"""Requests on their way to the wire, with the file descriptors that go along.

The law: a request owns duplicates of its descriptors from its making until it has been sent or given
back, because its sender may be cancelled, and close his, before the writer gets to it.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import trio


@dataclass
class Outgoing:
    """One request; a context manager that closes its descriptors."""

    data: bytes
    fds: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes, fds: Sequence[int]) -> Self:
        """A request with duplicates of ``fds``.

        :raises OSError: one of them is not open.
        """
        request = cls(data)
        try:
            request.fds.extend(os.dup(fd) for fd in fds)
        except OSError:
            request.close()
            raise
        return request

    def ancillary(self) -> list[tuple[int, int, array.array[int]]]:
        """The descriptors as ``sendmsg`` wants them; they go with the first byte."""
        return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.fds))] if self.fds else []

    async def send(self, stream: trio.abc.SendStream) -> None:
        """Send it whole."""
        sent = 0
        if self.fds and isinstance(stream, trio.SocketStream):
            sent = await stream.socket.sendmsg([self.data], self.ancillary())
        await stream.send_all(self.data[sent:])

    def close(self) -> None:
        """Close the duplicates."""
        while self.fds:
            os.close(self.fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def family(stream: trio.abc.Stream) -> int | None:
    """The address family of a stream's socket; None for other streams."""
    return stream.socket.family if isinstance(stream, trio.SocketStream) else None

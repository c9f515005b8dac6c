"""A server behind real sockets, for what memory streams do not have: descriptors, buffers, processes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.protocol.client import Client
from tests.protocol.fakes import Supervision, supervised


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Supervision]:
    """A server that accepts clients at the unix socket ``path``."""
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(path))
        listener.listen(512)
        async with supervised() as here:
            here.nursery.start_soon(
                trio.serve_listeners, here.server.serve_client, [trio.SocketListener(listener)]
            )
            yield here


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    """A client on a unix socket that has read its greeting."""
    async with await trio.open_unix_socket(path) as stream:
        client = Client(stream)
        await client.greeting()
        yield client


async def send_with(client: Client, data: bytes, fds: list[int], *commands: str) -> None:
    """Raw bytes with descriptors; ``commands`` are those that answers are expected to."""
    assert isinstance(client.stream, trio.SocketStream)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(fd.to_bytes(4, "little") for fd in fds))]
    await client.stream.socket.sendmsg([data], rights)
    await client.send(b"", *commands)

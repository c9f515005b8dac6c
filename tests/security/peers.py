"""Programs of the host's at the other end of a hostile guest's vsock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

PORTS = range(2)


class Peers:
    """Those of the device at ``path``.

    :ivar called: how often the guest has connected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.called = 0

    async def answer(self, stream: trio.SocketStream) -> None:
        """Say something and hear whatever comes, until one of us breaks it off."""
        self.called += 1
        with suppress(trio.BrokenResourceError), trio.move_on_after(1):
            await stream.send_all(bytes(100_000))
            async for _ in stream:
                pass

    async def call(self) -> None:
        """Connect to the guest again and again, without waiting for an answer."""
        while True:
            for port in PORTS:
                async with await trio.open_unix_socket(self._path) as stream:
                    with suppress(trio.BrokenResourceError), trio.move_on_after(0.1):
                        await stream.send_all(b"CONNECT %d\nhello" % port)
                        await stream.receive_some()

    async def listen(self, port: int) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(f"{self._path}_{port}")
            listener.listen()
            await trio.serve_listeners(self.answer, [trio.SocketListener(listener)])


@asynccontextmanager
async def talking(path: Path) -> AsyncIterator[Peers]:
    """Peers of the device at ``path``, within the block."""
    peers = Peers(path)
    async with trio.open_nursery() as nursery:
        for task in (peers.call, *(partial(peers.listen, port) for port in PORTS)):
            nursery.start_soon(task)
        yield peers
        nursery.cancel_scope.cancel()

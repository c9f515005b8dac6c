"""Servers for clients under test: ours with a fake machine, QEMU, and one that plays a script.

Every wait has an absolute deadline, so a client that hangs fails its test.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from stratovirt.qmp.server import QmpServer
from tests.protocol.fakes import FakeControl, carry_out_quit

PATIENCE = 30
GREETING = b'{"QMP":{"version":{"qemu":{"micro":0,"minor":0,"major":9}},"capabilities":[]}}\r\n'
STAMP = {"seconds": 1, "microseconds": 500_000}


class Player:
    """The server's end of a connection, played by the test."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *messages: Any) -> None:
        """Lines, in one packet."""
        await self.stream.send_all(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))

    async def request(self) -> dict[str, Any]:
        """The client's next request."""
        while b"\n" not in self._received:
            data = await self.stream.receive_some()
            assert data, "the client has left"
            self._received += bytes(data)
        line, _, self._received = self._received.partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request

    async def welcome(self) -> None:
        """Greet, and accept the negotiation."""
        await self.stream.send_all(GREETING)
        await self.answer(await self.request())

    async def answer(self, request: dict[str, Any], result: Any = None) -> None:
        await self.send({"return": {} if result is None else result, "id": request["id"]})


def event(name: str, **data: Any) -> dict[str, Any]:
    """An event as a server sends it."""
    return {"event": name, "data": data, "timestamp": STAMP}


@asynccontextmanager
async def played(play: Callable[[Player], Awaitable[None]]) -> AsyncIterator[trio.SocketStream]:
    """The client's end of a connection whose other end does what ``play`` says, then closes."""
    near, far = trio.socket.socketpair()

    async def serve() -> None:
        async with trio.SocketStream(far) as stream:
            await play(Player(stream))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with trio.SocketStream(near) as stream:
                yield stream
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[FakeControl]:
    """Our server at a unix socket, for a fake machine that ``quit`` ends."""
    control = FakeControl()
    server = QmpServer(control)
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server.serve_client, [trio.SocketListener(sock)])
            nursery.start_soon(carry_out_quit, control, server)
            yield control
            nursery.cancel_scope.cancel()


@contextmanager
def qemu(path: Path) -> Iterator[None]:
    """QEMU without a machine, its QMP at ``path``; skips where there is no QEMU."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    options = ["-machine", "none", "-S", "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen([program, *options], stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def connected_pair() -> tuple[socket.socket, trio.SocketStream]:
    """A plain socket for the blocking client, and the server's end of it."""
    near, far = socket.socketpair()
    return near, trio.SocketStream(trio.socket.from_stdlib_socket(far))

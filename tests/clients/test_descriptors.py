"""File descriptors go with their request, stay the caller's, and never leak (a cop in conftest counts)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from stratovirt.client import QmpClient, QmpTimeout, blocking
from stratovirt.client.limits import MAX_FDS
from tests.clients.servers import GREETING, Player, played


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def receive_fds(peer: socket.socket, result: str = "{}") -> list[int]:
    """Read one request with its descriptors and answer it."""
    data, fds, _, _ = socket.recv_fds(peer, 1 << 16, MAX_FDS)
    number = data.rpartition(b":")[2].strip(b"}\r\n").decode()
    peer.sendall(f'{{"return":{result},"id":{number}}}\r\n'.encode())
    return fds


def serve(peer: socket.socket) -> list[bytes]:
    """Greet, negotiate, take descriptors from one request; returns what each of them can read."""
    with peer:
        peer.sendall(GREETING)
        assert receive_fds(peer) == []
        fds = receive_fds(peer)
        texts = [os.read(fd, 100) for fd in fds]
        for fd in fds:
            os.close(fd)
        return texts


async def test_the_trio_client_passes_descriptors(pipe: tuple[int, int]) -> None:
    near, far = socket.socketpair()
    texts: list[bytes] = []

    async def run() -> None:
        texts.extend(await trio.to_thread.run_sync(serve, far))

    os.write(pipe[1], b"through the pipe")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
            async with QmpClient.over(stream) as client:
                assert await client.execute("getfd", fdname="tap0", fds=[pipe[0]]) == {}
    assert texts == [b"through the pipe"]
    os.fstat(pipe[0])  # still ours


async def test_the_blocking_client_passes_descriptors(pipe: tuple[int, int]) -> None:
    near, far = socket.socketpair()

    def use() -> None:
        with blocking.QmpClient.over(near, timeout=30) as client:
            assert client.execute("getfd", fdname="tap0", fds=[pipe[0]], timeout=30) == {}

    os.write(pipe[1], b"through the pipe")
    texts: list[bytes] = []

    async def run() -> None:
        texts.extend(await trio.to_thread.run_sync(serve, far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(trio.to_thread.run_sync, use)
    assert texts == [b"through the pipe"]


async def welcome_and_read_no_more(server: Player) -> None:
    await server.welcome()
    await trio.sleep_forever()


async def test_descriptors_of_a_request_that_is_never_sent_are_closed(
    pipe: tuple[int, int], autojump_clock: trio.testing.MockClock
) -> None:
    async with played(welcome_and_read_no_more) as stream, QmpClient.over(stream) as client:
        with pytest.raises(QmpTimeout):
            await client.execute("big", filler="x" * 4_000_000, timeout=1)
        held = os.listdir("/proc/self/fd")
        with pytest.raises(QmpTimeout):
            await client.execute("getfd", fdname="tap0", fds=[pipe[0]] * 3, timeout=1)
        assert os.listdir("/proc/self/fd") == held


async def test_what_cannot_be_passed_is_refused_before_anything_is_sent(pipe: tuple[int, int]) -> None:
    commands = []

    async def play(server: Player) -> None:
        await server.welcome()
        request = await server.request()
        commands.append(request["execute"])
        await server.answer(request)

    async with played(play) as stream, QmpClient.over(stream) as client:
        with pytest.raises(ValueError, match="at most 253"):
            await client.execute("getfd", fdname="x", fds=[pipe[0]] * 254)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await client.execute("getfd", fdname="x", fds=[pipe[0], 1 << 20])
        with pytest.raises(TypeError, match="not JSON serializable"):
            await client.execute("getfd", fdname=object())
        await client.execute("stop")
    assert commands == ["stop"]

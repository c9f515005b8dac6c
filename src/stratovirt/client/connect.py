"""Ways to a QMP server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from stratovirt.client.limits import CONNECT_SECONDS, RETRY_SECONDS
from stratovirt.client.scopes import deadline
from stratovirt.client.session import QmpClient
from stratovirt.errors import QmpConnectError


@asynccontextmanager
async def connect_unix(
    path: str | os.PathLike[str], *, timeout: float | None = CONNECT_SECONDS, starting: bool = False
) -> AsyncIterator[QmpClient]:
    """A client on the unix socket at ``path``, closed at the end of the block.

    :param timeout: seconds until greeting and negotiation are over.
    :param starting: the server may not listen yet: try again until ``timeout``.
    :raises QmpConnectError: nobody listens there, or what answers is not QMP.
    :raises QmpTimeout: no answer in time.
    """
    name = os.fspath(path)
    async with _connected(name, partial(trio.open_unix_socket, name), timeout, starting) as client:
        yield client


@asynccontextmanager
async def connect_tcp(
    host: str, port: int, *, timeout: float | None = CONNECT_SECONDS, starting: bool = False
) -> AsyncIterator[QmpClient]:
    """A client on a TCP socket; everything else as :func:`connect_unix`."""
    open_stream = partial(trio.open_tcp_stream, host, port)
    async with _connected(f"{host}:{port}", open_stream, timeout, starting) as client:
        yield client


@asynccontextmanager
async def _connected(
    name: str, open_stream: Callable[[], Awaitable[trio.SocketStream]], timeout: float | None, starting: bool
) -> AsyncIterator[QmpClient]:
    begin = trio.current_time()
    with deadline(timeout, f"connection to {name}"):
        stream = await _open(name, open_stream, starting)
    left = None if timeout is None else max(0, begin + timeout - trio.current_time())
    async with QmpClient.over(stream, timeout=left) as client:
        yield client


async def _open(
    name: str, open_stream: Callable[[], Awaitable[trio.SocketStream]], starting: bool
) -> trio.SocketStream:
    while True:
        try:
            return await open_stream()
        except OSError as error:
            if not starting:
                raise QmpConnectError(f"{name}: {error.strerror or error}") from error
        await trio.sleep(RETRY_SECONDS)

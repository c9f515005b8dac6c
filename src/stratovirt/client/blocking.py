"""The client for programs without trio: the same names, without ``async``.

It speaks over a plain socket with the sans-io core of the trio client, rather than driving that in a
thread of its own: nothing to start, to join or to hand results between, and nothing of trio to load.

::

    with connect_unix("/run/vm.qmp") as client:
        print(client.execute("query-status", timeout=5)["status"])
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from stratovirt.client.limits import CONNECT_SECONDS, RETRY_SECONDS
from stratovirt.client.plain import Deadline, QmpClient, Subscription
from stratovirt.errors import QmpConnectError

__all__ = ["QmpClient", "Subscription", "connect_tcp", "connect_unix"]


@contextmanager
def connect_unix(
    path: str | os.PathLike[str], *, timeout: float | None = CONNECT_SECONDS, starting: bool = False
) -> Iterator[QmpClient]:
    """A client on the unix socket at ``path``, closed at the end of the block.

    :param timeout: seconds until greeting and negotiation are over.
    :param starting: the server may not listen yet: try again until ``timeout``.
    :raises QmpConnectError: nobody listens there, or what answers is not QMP.
    :raises QmpTimeout: no answer in time.
    """
    name = os.fspath(path)
    with _connected(name, partial(_open_unix, name), timeout, starting) as client:
        yield client


@contextmanager
def connect_tcp(
    host: str, port: int, *, timeout: float | None = CONNECT_SECONDS, starting: bool = False
) -> Iterator[QmpClient]:
    """A client on a TCP socket; everything else as :func:`connect_unix`."""
    open_socket = partial(socket.create_connection, (host, port))
    with _connected(f"{host}:{port}", open_socket, timeout, starting) as client:
        yield client


@contextmanager
def _connected(
    name: str, open_socket: Callable[[float | None], socket.socket], timeout: float | None, starting: bool
) -> Iterator[QmpClient]:
    deadline = Deadline(timeout, f"connection to {name}")
    with (
        _open(name, open_socket, deadline, starting) as sock,
        QmpClient.over(sock, timeout=deadline.left()) as client,
    ):
        yield client


def _open_unix(path: str, seconds: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _open(
    name: str, open_socket: Callable[[float | None], socket.socket], deadline: Deadline, starting: bool
) -> socket.socket:
    while True:
        seconds = deadline.left()  # not within try: QmpTimeout is a TimeoutError
        try:
            return open_socket(seconds)
        except TimeoutError:
            continue  # the deadline says what was awaited
        except OSError as error:
            if not starting:
                raise QmpConnectError(f"{name}: {error.strerror or error}") from error
        time.sleep(RETRY_SECONDS)

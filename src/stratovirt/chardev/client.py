"""Connecting to a socket that someone else listens on: the part that unix and TCP clients share."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError

CONNECT_SECONDS = 10.0
"""How long the peer may take to accept; Linux alone would try for two minutes (tcp_syn_retries)."""


class SocketClient(ABC):
    """One connection, made by :meth:`open`; its end is the end of ``serve``."""

    def __init__(self, id: str, family: socket.AddressFamily, address: str) -> None:
        self.id = id
        self._family = family
        self._address = address  # for messages
        self._socket: socket.socket | None = None

    @property
    @abstractmethod
    def filename(self) -> str:
        """See :class:`~stratovirt.chardev.protocol.Chardev`."""

    @abstractmethod
    def _connect(self, client: socket.socket) -> None:
        """Connect, waiting for it.

        :raises OSError: nobody accepts.
        """

    def open(self) -> None:
        """Connect, within :data:`CONNECT_SECONDS`.

        :raises ConfigError: nobody accepts; names the address.
        """
        if self._socket is not None:
            return
        with ExitStack() as undo:
            client = undo.enter_context(socket.socket(self._family, socket.SOCK_STREAM))
            client.settimeout(CONNECT_SECONDS)
            try:
                self._connect(client)
            except OSError as error:
                reason = error.strerror or "nobody answered in time"
                raise ConfigError(f"{self._address}: cannot connect: {reason}") from error
            undo.pop_all()
        self._socket = client

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` over the connection, once."""
        async with trio.SocketStream(trio.socket.from_stdlib_socket(self.take())) as stream:
            await handler(stream)

    def take(self) -> socket.socket:
        """The connection itself, for a device that serves it without trio; the taker closes it."""
        client, self._socket = self._socket, None
        if client is None:
            raise RuntimeError(f"chardev {self.id} is not open")
        return client

    def close(self) -> None:
        """Close a connection that was not served."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

"""Serving a listening socket: the part that unix and TCP servers share.

The law: nothing that a peer or the host does to one connection ends the listener.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import cached_property

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError

BACKLOG = 128
"""Connections that wait to be accepted. Precedent: SOMAXCONN before Linux 5.4."""

ACCEPT_PAUSE_SECONDS = 0.1
"""Rest after an accept that failed for lack of something. Precedent: ``trio.serve_listeners``."""

_OUT_OF_SOMETHING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_log = logging.getLogger(__name__)


class SocketServer(ABC):
    """A listening socket."""

    def __init__(self, id: str, family: socket.AddressFamily, address: str) -> None:
        self.id = id
        self._family = family
        self._address = address  # for messages
        self._socket: socket.socket | None = None

    @cached_property
    def first_client(self) -> trio.Event:
        """Set by the first connection (QEMU's ``wait=on``)."""
        return trio.Event()

    @property
    @abstractmethod
    def filename(self) -> str:
        """See :class:`~stratovirt.chardev.protocol.Chardev`."""

    @abstractmethod
    def _bind(self, server: socket.socket) -> None:
        """Give the socket its address.

        :raises OSError: it cannot be had.
        :raises ConfigError: the same, with a better reason than the host's.
        """

    def open(self) -> None:
        """Bind and listen: from now on peers can connect, and wait.

        :raises ConfigError: the address cannot be had; names it.
        """
        if self._socket is not None:
            return
        with ExitStack() as undo:
            server = undo.enter_context(socket.socket(self._family, socket.SOCK_STREAM))
            try:
                self._bind(server)
                server.listen(BACKLOG)
            except OSError as error:
                raise ConfigError(f"{self._address}: cannot listen: {error.strerror}") from error
            undo.pop_all()
        self._socket = server

    @property
    def listening(self) -> socket.socket:
        """The open socket, which stays ours: for who accepts instead of :meth:`serve`."""
        if self._socket is None:
            raise RuntimeError(f"chardev {self.id} is not open")
        return self._socket

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Accept for ever; see :class:`~stratovirt.chardev.protocol.Chardev`."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self.listening))
        slots = trio.CapacityLimiter(math.inf if clients is None else clients)
        async with trio.open_nursery() as nursery:
            while True:
                slot = object()
                await slots.acquire_on_behalf_of(slot)
                stream = await self._accept(listener)
                self.first_client.set()
                nursery.start_soon(_serve_one, handler, stream, slots, slot)

    async def _accept(self, listener: trio.SocketListener) -> trio.SocketStream:
        """The next connection. While fds or memory are short, peers wait: they are not refused."""
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                if error.errno not in _OUT_OF_SOMETHING:
                    raise
                _log.warning("chardev %s: cannot accept for now: %s", self.id, error.strerror)
                await trio.sleep(ACCEPT_PAUSE_SECONDS)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def _serve_one(
    handler: Handler, stream: trio.SocketStream, slots: trio.CapacityLimiter, slot: object
) -> None:
    try:
        async with stream:
            await handler(stream)
    finally:
        slots.release_on_behalf_of(slot)

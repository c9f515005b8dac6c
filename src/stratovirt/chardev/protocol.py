"""What every character device offers.

The law: :meth:`Chardev.open` claims everything that can be refused, before trio starts, so that a bad
path or a taken port is one line on stderr; after it, only the outside world can fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

Handler = Callable[["trio.abc.Stream"], Awaitable[None]]
"""Serves one connection: talks over the stream until it is done. It need not close the stream. Socket
streams are :class:`trio.SocketStream`. What it raises ends :meth:`Chardev.serve`."""


class Chardev(Protocol):
    """A host character device. ``open``, ``serve`` (any number of times, one at a time), ``close``."""

    @property
    def id(self) -> str:
        """Its name on the command line, the ``label`` of query-chardev."""

    @property
    def filename(self) -> str:
        """What it is, as QEMU spells it in query-chardev: ``unix:/run/vm.sock,server=on``."""

    def open(self) -> None:
        """Claim what it needs: bind and listen, open the file, make the pty. Idempotent.

        :raises ConfigError: it cannot be had; the text names the path or address.
        """

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once per connection, closing each stream behind it.

        Listening sockets and ptys serve until they are cancelled, sockets at most ``clients`` connections
        at a time (None: any number), others wait to be accepted. The rest have one stream: its end is the
        end of ``serve``.
        """

    def close(self) -> None:
        """Give everything back: fds, the socket file if it is still ours, the terminal's mode.

        Idempotent and synchronous, so that it also works when trio is gone; not while ``serve`` runs.
        """

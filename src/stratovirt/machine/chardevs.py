"""The host's character devices, and how they come and go while a machine runs.

The law: one has one user at most, a device of the guest's or a monitor, and is not removed before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from stratovirt.machine.info import ChardevInfo


class ChardevRequest(NamedTuple):
    """A character device to be had.

    :ivar path: of a unix socket or a file.
    :ivar host: an IP address.
    :ivar server: listen, rather than connect.
    :ivar size: of a ring buffer; None: the default.
    """

    id: str
    kind: Literal["unix", "inet", "pty", "file", "null", "ringbuf"]
    path: str = ""
    host: str = ""
    port: int = 0
    server: bool = False
    size: int | None = None


class CharacterDevices(Protocol):
    """Those of a run, as managers see them."""

    async def add(self, request: ChardevRequest) -> ChardevInfo:
        """Open one more: a socket listens or is connected, a file is there.

        :raises CommandError: the id is taken, or the host refuses.
        """

    async def remove(self, id: str) -> None:
        """Close one that nobody uses.

        :raises CommandError: there is none, or somebody uses it.
        """

    def list(self) -> Sequence[ChardevInfo]:
        """All of them, those of monitors too."""

    def read(self, id: str, size: int) -> bytes:
        """Take the oldest bytes out of a ring buffer, at most ``size``.

        :raises CommandError: there is none of this id.
        """

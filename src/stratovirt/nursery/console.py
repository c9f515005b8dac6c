"""The console: the serial line's host end, carried by a character device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from stratovirt.chardev.protocol import Handler


class Carrier(Protocol):
    """A character device, as far as a console needs one."""

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None: ...


class Port(Protocol):
    """The host's end of a line (:class:`BytePort`, :class:`StreamPort`)."""

    async def attach(self, stream: trio.abc.Stream) -> None: ...

    async def drain(self, deadline: float) -> bool: ...


@dataclass(frozen=True)
class Console:
    """A line of the guest's: the first serial one, or a virtconsole.

    :param carrier: where its bytes come from and go to; None keeps the last of them for nobody.
    """

    port: Port
    carrier: Carrier | None

    async def serve(self) -> None:
        """Carry bytes between the line and one connection at a time, until cancelled."""
        if self.carrier is not None:
            await self.carrier.serve(self.port.attach, clients=1)

"""The console: the serial line's host end, carried by a character device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from stratovirt.chardev.mux import Multiplexer
from stratovirt.chardev.protocol import Chardev, Handler


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


class SharedConsole:
    """A terminal that console and human monitor share; it outlives the machine, as monitors do.

    :param quit: what Ctrl-a x does.
    """

    def __init__(self, chardev: Chardev, quit: Callable[[], None]) -> None:
        self._chardev = chardev
        self._mux = Multiplexer(quit)

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` on the console's part, once."""
        await handler(self._mux.console)

    async def run(self, monitor: Handler) -> None:
        """Serve the terminal; run ``monitor`` on the monitor's part once somebody switches to it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._chardev.serve, self._mux.carry)
            await self._mux.visited.wait()
            await monitor(self._mux.monitor)

"""A terminal that a console of the guest's and the human monitor share, by Ctrl-a c."""

from __future__ import annotations

from collections.abc import Callable

import trio

from stratovirt.chardev.mux import Multiplexer
from stratovirt.chardev.protocol import Chardev, Handler


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

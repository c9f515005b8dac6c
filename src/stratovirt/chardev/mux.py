"""One terminal for two: the guest's console, and the monitor.

The law: what is typed goes to one of them at a time, in order; what they write both reaches the terminal at
once, as in QEMU, so that no output of the guest is held up while a person talks to the monitor.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from stratovirt.chardev.escape import EscapeParser, Key, help_text

READ_SIZE = 4096
"""Bytes read from the terminal at once: a page, as its line discipline holds."""

TYPED_LIMIT = 64 << 10
"""Bytes typed ahead, for each of the two; then the terminal waits, and so do the escape keys behind. A
paused guest takes nothing, so this is how much can be typed at it with Ctrl-a c still working (QEMU: 32)."""

REDRAW = b"\x0c"
"""Ctrl-L, which line editors take as the wish to see prompt and line again."""

_log = logging.getLogger(__name__)


class Multiplexer:
    """Parts a terminal into the streams ``console``, which has it first, and ``monitor``.

    Ctrl-a c switches, Ctrl-a x calls ``quit``, Ctrl-a h says so.
    """

    def __init__(self, quit: Callable[[], None]) -> None:
        self.console = Side(self._send)
        self.monitor = Side(self._send)
        self.visited = trio.Event()
        """Has anybody switched to the monitor yet?"""
        self._quit = quit
        self._focus = self.console
        self._terminal: trio.abc.Stream | None = None
        self._connected = trio.Event()
        self._sending = trio.Lock()

    async def carry(self, terminal: trio.abc.Stream) -> None:
        """Carry bytes until the terminal ends or breaks; then both streams have ended. To be called once."""
        self._terminal = terminal
        self._connected.set()
        parser = EscapeParser()
        try:
            while data := await terminal.receive_some(READ_SIZE):
                for item in parser.feed(data):
                    await self._obey(item)
        except trio.BrokenResourceError as error:
            _log.debug("terminal broke: %s", error.__cause__ or error)
        finally:
            self.console.end()
            self.monitor.end()

    async def _obey(self, item: bytes | Key) -> None:
        if isinstance(item, bytes):
            await self._focus.deliver(item)
        elif item is Key.HELP:
            await self._send(help_text())
        elif item is Key.QUIT:
            self._quit()
        else:
            await self._switch()

    async def _switch(self) -> None:
        await self._send(b"\r\n")
        if self._focus is self.monitor:
            self._focus = self.console
            return
        self._focus = self.monitor
        if self.visited.is_set():
            await self.monitor.deliver(REDRAW)
        self.visited.set()

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        await self._connected.wait()
        assert self._terminal is not None
        async with self._sending:  # a stream has one sender at a time
            await self._terminal.send_all(data)


class Side(trio.abc.Stream):
    """One of the two, as a stream."""

    def __init__(self, send: Callable[[bytes | bytearray | memoryview], Awaitable[None]]) -> None:
        self._send = send
        self._typed = bytearray()
        self._ended = False
        self._changed = trio.lowlevel.ParkingLot()

    async def deliver(self, data: bytes) -> None:
        """Add what was typed, once there is room."""
        while len(self._typed) >= TYPED_LIMIT:
            await self._changed.park()
        self._typed += data
        self._changed.unpark_all()

    def end(self) -> None:
        """Nothing more will be typed."""
        self._ended = True
        self._changed.unpark_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What was typed; ``b""`` at the terminal's end."""
        await trio.lowlevel.checkpoint()
        while not self._typed and not self._ended:
            await self._changed.park()
        data = bytes(self._typed[:max_bytes])
        del self._typed[: len(data)]
        self._changed.unpark_all()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the terminal, when it is there and the other side does not."""
        await self._send(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Nothing is known beforehand."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """The terminal stays: it is the other side's as well."""
        await trio.lowlevel.checkpoint()

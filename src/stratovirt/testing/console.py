"""The guest's console as a person at it would use it: wait for a text, type a line.

The law: nothing that the guest has printed is ever thrown away. ``text`` is the whole log; waiting only
moves a mark in it, so what a failing test did not look for can still be shown.
"""

from __future__ import annotations

import math
import re

import trio

CHUNK = 65536
PATIENCE = 60
"""Seconds that a text may take: a boot on a software CPU needs three, on a loaded host thirty."""
TAIL = 2000
"""Bytes of output in a failure's message: the screen that a person would look at."""
PRINTK = re.compile(rb"\[ *\d+\.\d{6}\]")
"""Where a message of the kernel begins; it ends with its line (Linux, kernel/printk/printk.c, print_time)."""
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\xa0-\U0010ffff]")
"""Control sequences (ECMA-48) and characters: a report must not steer the terminal that shows it."""


class GuestConsole:
    """Reads a stream until an expected text has come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.text = bytearray()
        """All that has come so far."""
        self._read = 0

    async def expect(self, wanted: bytes, *, seconds: float = PATIENCE) -> bytes:
        """Wait for ``wanted``; returns what came since the last call, up to and with it.

        :raises AssertionError: it did not come in time, or the console ended; shows the last output.
        """
        looked_at = self._read
        try:
            with trio.fail_after(seconds):
                while (at := self.text.find(wanted, looked_at)) < 0:
                    looked_at = max(self._read, len(self.text) - len(wanted) + 1)
                    if not await self._receive():
                        raise AssertionError(f"the console ended before {wanted!r}: {self.tail()}")
        except trio.TooSlowError:
            raise AssertionError(f"no {wanted!r} within {seconds:g} s: {self.tail()}") from None
        end = at + len(wanted)
        seen, self._read = bytes(self.text[self._read : end]), end
        return seen

    async def line(self) -> bytes:
        """The next line, without its end, as programs print it: cleaned of the kernel's messages.

        A message that bursts into a line is a whole one with its own end: what follows it is the line's rest.
        """
        so_far = b""
        while True:
            so_far += await self.expect(b"\n", seconds=math.inf)
            message = PRINTK.search(so_far)
            if message is None:
                return so_far[:-1].removesuffix(b"\r")
            so_far = so_far[: message.start()]

    async def silent(self, *, seconds: float) -> bool:
        """Does nothing come for that long?"""
        with trio.move_on_after(seconds):
            await self._receive()
            return False
        return True

    def skip(self) -> None:
        """Look for nothing any more in what has come so far."""
        self._read = len(self.text)

    async def type(self, line: str) -> None:
        """Type a line."""
        await self.send(line.encode() + b"\n")

    async def send(self, data: bytes) -> None:
        """Send bytes as they are: control characters, say."""
        await self._stream.send_all(data)

    def tail(self) -> str:
        """The last output, for a failure's message."""
        return printable(self.text[-TAIL:])

    def log(self) -> str:
        """All output, as a report can show it."""
        return printable(self.text)

    async def drain(self) -> None:
        """Read to the end of the stream: the last words of a machine that is gone."""
        while await self._receive():
            pass

    async def _receive(self) -> bool:
        try:
            data = await self._stream.receive_some(CHUNK)
        except trio.BrokenResourceError:
            return False  # the connection is reset where the process was killed with input unread
        self.text += data
        return bool(data)


def printable(output: bytes | bytearray) -> str:
    """Output as text without what only a terminal understands: busybox asks it for the cursor's place."""
    return CONTROL.sub("", output.decode(errors="replace"))

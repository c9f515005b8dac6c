"""The guest's console as a person at it would use it: wait for a text, type a line."""

from __future__ import annotations

import trio

CHUNK = 65536


class Console:
    """Reads a stream until an expected text has come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.text = bytearray()
        """All that has come so far."""
        self._read = 0

    async def expect(self, wanted: bytes, *, seconds: float = 60) -> bytes:
        """Wait for ``wanted``; returns what came since the last call, up to and with it.

        :raises AssertionError: it did not come in time, or the stream ended; shows the last output.
        """
        try:
            with trio.fail_after(seconds):
                while (at := self.text.find(wanted, self._read)) < 0:
                    data = await self._stream.receive_some(CHUNK)
                    if not data:
                        raise AssertionError(f"the console ended before {wanted!r}: {self.tail()}")
                    self.text += data
        except trio.TooSlowError:
            raise AssertionError(f"no {wanted!r} within {seconds} s: {self.tail()}") from None
        end = at + len(wanted)
        seen, self._read = bytes(self.text[self._read : end]), end
        return seen

    async def silent(self, *, seconds: float) -> bool:
        """Does nothing come for that long?"""
        with trio.move_on_after(seconds):
            self.text += await self._stream.receive_some(CHUNK)
            return False
        return True

    def skip(self) -> None:
        """Look for nothing any more in what has come so far."""
        self._read = len(self.text)

    async def type(self, line: str) -> None:
        """Type a line."""
        await self._stream.send_all(line.encode() + b"\n")

    def tail(self) -> str:
        """The last output, for a failure's message."""
        return bytes(self.text[-2000:]).decode(errors="replace")

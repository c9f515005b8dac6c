"""Character devices that only take output: file, null and ringbuf."""

from __future__ import annotations

import os

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError

RINGBUF_SIZE = 64 << 10
"""Bytes a ring buffer keeps when no size is given, as in QEMU."""


class File:
    """Output into the file at ``path``, which is emptied first, as QEMU does."""

    filename = "file"

    def __init__(self, id: str, path: str) -> None:
        self.id = id
        self._path = path
        self._fd: int | None = None

    def open(self) -> None:
        """Create or empty the file.

        :raises ConfigError: the host refuses; names the path.
        """
        if self._fd is not None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK  # a FIFO without reader: an error
        try:
            self._fd = os.open(self._path, flags, 0o666)
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot write: {error.strerror}") from error

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once; its output goes to the page cache, which does not block for long."""
        if self._fd is None:
            raise RuntimeError(f"chardev {self.id} is not open")
        from stratovirt.chardev.streams import FileOutput

        await _serve_output(handler, FileOutput(trio.lowlevel.FdStream(os.dup(self._fd)), self._path))

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class RingBuffer:
    """Output into memory: the last ``size`` bytes of it, a power of two."""

    filename = "ringbuf"

    def __init__(self, id: str, size: int = RINGBUF_SIZE) -> None:
        if size < 1 or size & (size - 1):
            raise ConfigError(f"ringbuf size {size} is not a power of two")
        self.id = id
        self._size = size
        self._kept = bytearray()

    def read(self, size: int) -> bytes:
        """Take the oldest bytes out, at most ``size``."""
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

    def open(self) -> None:
        """Nothing to claim."""

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once."""
        await _serve_kept(handler, self._kept, self._size)

    def close(self) -> None:
        """Nothing to give back."""


class Null:
    """Output into nothing."""

    filename = "null"

    def __init__(self, id: str) -> None:
        self.id = id

    def open(self) -> None:
        """Nothing to claim."""

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once."""
        await _serve_kept(handler, bytearray(), 0)

    def close(self) -> None:
        """Nothing to give back."""


async def _serve_output(handler: Handler, output: trio.abc.SendStream) -> None:
    from stratovirt.chardev.streams import Silence

    async with trio.StapledStream(output, Silence()) as stream:
        await handler(stream)


async def _serve_kept(handler: Handler, kept: bytearray, size: int) -> None:
    from stratovirt.chardev.streams import Keeper

    await _serve_output(handler, Keeper(kept, size))

"""Character devices that only take output: file, null and ringbuf."""

from __future__ import annotations

import logging
import os

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError

_log = logging.getLogger(__name__)

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
        await _serve_output(handler, _FileOutput(trio.lowlevel.FdStream(os.dup(self._fd)), self._path))

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
        await _serve_output(handler, _Keeper(self._kept, self._size))

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
        await _serve_output(handler, _Keeper(bytearray(), 0))

    def close(self) -> None:
        """Nothing to give back."""


class _Keeper(trio.abc.SendStream):
    """Keeps the last ``size`` bytes of what is sent in ``kept``."""

    def __init__(self, kept: bytearray, size: int) -> None:
        self._kept = kept
        self._size = size

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._kept += data
        del self._kept[: max(0, len(self._kept) - self._size)]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _FileOutput(trio.abc.SendStream):
    """Output into a file; what it does not take, as on a full disk, is lost, and the log says so once."""

    def __init__(self, file: trio.lowlevel.FdStream, path: str) -> None:
        self._file = file
        self._path = path
        self._failing = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._file.send_all(data)
        except trio.BrokenResourceError as error:
            if not self._failing:
                _log.warning("%s: output is lost: %s", self._path, error.__cause__)
            self._failing = True
        else:
            self._failing = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._file.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._file.aclose()


class _Silence(trio.abc.ReceiveStream):
    """The input of a device that has none: nothing ever comes, and it never ends."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _serve_output(handler: Handler, output: trio.abc.SendStream) -> None:
    async with trio.StapledStream(output, _Silence()) as stream:
        await handler(stream)

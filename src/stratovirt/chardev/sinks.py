"""Character devices that only take output: file, null and ringbuf."""

from __future__ import annotations

import os
from abc import abstractmethod

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError


class Silence(trio.abc.ReceiveStream):
    """The input of a device that has none: nothing ever comes, and it never ends."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        return b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Sink:
    """A character device that only takes output."""

    def __init__(self, id: str, filename: str) -> None:
        self.id = id
        self.filename = filename

    def open(self) -> None:
        """Nothing to claim."""

    @abstractmethod
    def _output(self) -> trio.abc.SendStream:
        """Where this connection's output goes."""

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once, over a stream without input."""
        async with trio.StapledStream(self._output(), Silence()) as stream:
            await handler(stream)

    def close(self) -> None:
        """Nothing to give back."""


class File(Sink):
    """Output into the file at ``path``, which is emptied first, as QEMU does."""

    def __init__(self, id: str, path: str) -> None:
        super().__init__(id, "file")
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

    def _output(self) -> trio.abc.SendStream:
        if self._fd is None:
            raise RuntimeError(f"chardev {self.id} is not open")
        return trio.lowlevel.FdStream(os.dup(self._fd))  # writes to the page cache do not block for long

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Null(Sink):
    """Output into nothing."""

    def __init__(self, id: str) -> None:
        super().__init__(id, "null")

    def _output(self) -> trio.abc.SendStream:
        return _Appender(bytearray(), 0)


class RingBuffer(Sink):
    """Output into memory: the last ``size`` bytes of it, a power of two."""

    def __init__(self, id: str, size: int = 64 << 10) -> None:
        if size < 1 or size & (size - 1):
            raise ConfigError(f"ringbuf size {size} is not a power of two")
        super().__init__(id, "ringbuf")
        self._size = size
        self._kept = bytearray()

    def read(self, size: int) -> bytes:
        """Take the oldest bytes out, at most ``size``."""
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

    def _output(self) -> trio.abc.SendStream:
        return _Appender(self._kept, self._size)


class _Appender(trio.abc.SendStream):
    """Appends to a buffer and keeps its last ``size`` bytes."""

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

"""Streams that character devices serve with. A module of their own: defining them takes trio.

The law of this package: what is imported to claim a device does not use trio until it serves.
"""

from __future__ import annotations

import logging

import trio

_log = logging.getLogger(__name__)


class EndlessInput(trio.abc.ReceiveStream):
    """A stream whose end is only silence."""

    def __init__(self, source: trio.abc.ReceiveStream) -> None:
        self._source = source

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._source.receive_some(max_bytes)
        if not data:
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        await self._source.aclose()


class FileOutput(trio.abc.SendStream):
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


class Keeper(trio.abc.SendStream):
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


class Silence(trio.abc.ReceiveStream):
    """The input of a device that has none: nothing ever comes, and it never ends."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

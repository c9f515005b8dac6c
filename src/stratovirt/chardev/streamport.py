"""StreamPort: where a device that trio's thread serves meets a stream.

The law: while a reader is attached, no byte is lost of a device that puts no more than there is
:meth:`~StreamPort.room` for; and nobody waits for a reader that is stuck but the device.

:class:`~stratovirt.chardev.port.BytePort` is the same for a device that a vCPU thread touches byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from stratovirt.chardev.port import GATHER_SECONDS, LAST_WORDS_SECONDS, until_broken

OUTPUT_LIMIT = 1 << 20
"""Bytes of output kept, for a slow reader or for the next one. Linux's hvc spins with a lock held while it
waits for room (hvc_console.c), so there is more of it than a serial line has."""

INPUT_LIMIT = 64 << 10
"""Bytes taken from the stream ahead of the guest; more stays with the sender, who then waits."""

OUTPUT_CHUNK = 64 << 10
"""Bytes per send. What a broken send may not have delivered goes to the next reader, too."""


def _nothing() -> None:
    """What a callback does while no device listens."""


class StreamPort:
    """A two-way line of bytes between one device and one stream at a time. Everything on trio's thread.

    Without a stream, output goes to a scrollback of :data:`OUTPUT_LIMIT` bytes (the oldest go) that the
    next stream gets first. ``on_input`` is called when bytes wait to be taken, ``on_room`` when
    :meth:`room` may have grown.
    """

    def __init__(self) -> None:
        self.on_input: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self._output = bytearray()
        self._input = bytearray()
        self._attached = False
        self._changed = trio.lowlevel.ParkingLot()  # output put or sent, input taken, stream gone

    # The device's side.

    def room(self) -> int:
        """Bytes of output that are kept for a reader; 0 promises a call of ``on_room``."""
        return max(OUTPUT_LIMIT - len(self._output), 0) if self._attached else OUTPUT_LIMIT

    def put(self, data: bytes) -> None:
        """Take the guest's output; without :meth:`room` the oldest goes."""
        self._output += data
        del self._output[: max(len(self._output) - OUTPUT_LIMIT, 0)]
        self._changed.unpark_all()

    def has_input(self) -> bool:
        """Do bytes wait to be taken?"""
        return bool(self._input)

    def take(self, limit: int) -> bytes:
        """The next bytes of input, at most ``limit``."""
        data = bytes(self._input[:limit])
        del self._input[:limit]
        self._changed.unpark_all()
        return data

    # The stream's side.

    async def attach(self, stream: trio.abc.Stream) -> None:
        """Carry bytes both ways until the stream ends or breaks. Does not close it.

        :raises trio.BusyResourceError: another stream is attached.
        """
        if self._attached:
            raise trio.BusyResourceError("another stream is attached to this port")
        self._attached = True
        try:
            async with trio.open_nursery() as nursery:
                for pump in (self._pump_output, self._pump_input):
                    nursery.start_soon(until_broken, pump, stream, nursery.cancel_scope)
        finally:
            self._attached = False
            self._after_progress()

    async def drain(self, deadline: float) -> bool:
        """As :meth:`BytePort.drain`."""
        with trio.move_on_at(deadline):
            while self._attached and self._output:
                await self._changed.park()
        return not self._output

    async def _pump_output(self, stream: trio.abc.Stream) -> None:
        while True:
            while not self._output:
                await self._changed.park()
            chunk = bytes(self._output[:OUTPUT_CHUNK])
            await stream.send_all(chunk)
            del self._output[: len(chunk)]
            self._after_progress()
            if not self._output:
                await trio.sleep(GATHER_SECONDS)

    async def _pump_input(self, stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(await self._input_room()):
            self._input += data
            self.on_input()
        await self.drain(trio.current_time() + LAST_WORDS_SECONDS)

    async def _input_room(self) -> int:
        while not (room := INPUT_LIMIT - len(self._input)):
            await self._changed.park()
        return room

    def _after_progress(self) -> None:
        self._changed.unpark_all()
        self.on_room()

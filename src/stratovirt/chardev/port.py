"""BytePort: where a guest's byte device (vCPU threads) meets a stream (trio).

The law of this file: the guest's side never blocks and never waits for trio; and while a reader is
attached, no byte is lost of a guest that asks :meth:`BytePort.room` before it writes.

One lock guards both buffers. It is held for a few bytecodes only and never while a callback runs, so a
device may call the port with its own lock held and take that lock in ``on_input`` and ``on_room``.

The guest wakes the pump only when it is idle, and a pump that has just sent rests for a moment before it
looks again: so the first byte after a silence goes out at once, and output in a row goes out in pieces.
Measured, 18,000 bytes at 0.1 ms apart (a boot): 17,592 wake-ups and 0.74 s of trio's thread without that
rest, 17 wake-ups and 0.32 s with it. ``put`` and ``room`` take below 0.5 us.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from stratovirt.chardev.wakeup import Wakeup

OUTPUT_LIMIT = 64 << 10
"""Bytes of output kept, for a slow reader or for the next one. Precedent: QEMU's ringbuf default."""

INPUT_LIMIT = 256
"""Bytes taken from the stream ahead of the guest; more stays with the sender, who then waits."""

OUTPUT_CHUNK = 4096
"""Bytes per send. What a broken send may not have delivered goes to the next reader, too."""

GATHER_SECONDS = 0.002
"""Rest of the pump after a send that emptied the buffer; a 115,200 baud line moves 23 bytes in it."""

LAST_WORDS_SECONDS = 1.0
"""How long a reader that only closed its sending half (``nc -N``) may take for what is there to read."""

_log = logging.getLogger(__name__)


def _nothing() -> None:
    """What a callback does while no device listens."""


class BytePort:
    """A two-way line of bytes between one device and one stream at a time.

    Without a stream, output goes to a scrollback of :data:`OUTPUT_LIMIT` bytes (the oldest go) that the
    next stream gets first. ``on_input`` (bytes wait to be taken) and ``on_room`` (:meth:`room` was
    False and is True again) are called on trio's thread, without the port's lock.
    """

    def __init__(self) -> None:
        self.on_input: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.dropped = 0
        """Bytes of output that no reader has seen: off the scrollback's end, or written without room."""
        self._lock = threading.Lock()
        self._output = bytearray()
        self._input: deque[int] = deque()
        self._attached = False
        self._output_awaited = False  # the pump is idle: the next byte of output has to wake it
        self._room_awaited = False  # the guest was told that there is no room
        self._take_awaited = False  # the input buffer is full: the pump waits for the guest to take some
        self._output_ready = Wakeup()
        self._input_taken = Wakeup()
        self._progress = trio.lowlevel.ParkingLot()

    @property
    def attached(self) -> bool:
        """Is there a stream at the other end?"""
        return self._attached

    # The guest's side: vCPU threads.

    def put(self, byte: int) -> None:
        """Take one byte (0–255) of the guest's output. Without :meth:`room` it is dropped and counted."""
        with self._lock:
            if len(self._output) >= OUTPUT_LIMIT:
                self.dropped += 1
                if self._attached:
                    return
                del self._output[0]
            self._output.append(byte)
            wake, self._output_awaited = self._output_awaited, False
        if wake:
            self._output_ready.set()

    def room(self) -> bool:
        """Will the next byte be kept for a reader? False promises a call of ``on_room``."""
        if len(self._output) < OUTPUT_LIMIT:
            return True
        with self._lock:
            self._room_awaited = self._attached and len(self._output) >= OUTPUT_LIMIT
            return not self._room_awaited

    def take(self) -> int | None:
        """The next byte of input, or None when there is none."""
        if not self._input:
            return None
        with self._lock:
            byte = self._input.popleft() if self._input else None
            wake = self._take_awaited and len(self._input) <= INPUT_LIMIT // 2
            if wake:
                self._take_awaited = False
        if wake:
            self._input_taken.set()
        return byte

    # The stream's side: trio.

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
                    nursery.start_soon(_until_broken, pump, stream, nursery.cancel_scope)
        finally:
            self._detach()

    async def drain(self, deadline: float) -> bool:
        """Wait until everything put so far is written, or nobody is attached, or ``deadline`` (trio's clock).

        Call it with the guest stopped and :meth:`attach` still running. True when nothing was left behind.
        """
        with trio.move_on_at(deadline):
            while self._attached and self._output:
                await self._progress.park()
        return not self._output

    def close(self) -> None:
        """Close the port's fds; no vCPU thread and no task may use it any more."""
        self._output_ready.close()
        self._input_taken.close()

    def _detach(self) -> None:
        with self._lock:
            self._attached = self._output_awaited = self._take_awaited = False
        self._after_progress()

    async def _pump_output(self, stream: trio.abc.Stream) -> None:
        while True:
            chunk = await self._next_chunk()
            await stream.send_all(chunk)
            with self._lock:
                del self._output[: len(chunk)]
            self._after_progress()
            if len(chunk) < OUTPUT_CHUNK:
                await trio.sleep(GATHER_SECONDS)

    async def _next_chunk(self) -> bytes:
        """The oldest output, once there is any. It stays in the buffer until it is sent."""
        while True:
            with self._lock:
                chunk = bytes(self._output[:OUTPUT_CHUNK])
                self._output_awaited = not chunk
            if chunk:
                return chunk
            await self._output_ready.wait()

    def _after_progress(self) -> None:
        """Tell those who wait for output to go away that some has, or that its reader has."""
        self._progress.unpark_all()
        with self._lock:
            wanted, self._room_awaited = self._room_awaited, False
        if wanted:
            self.on_room()

    async def _pump_input(self, stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(await self._input_room()):
            with self._lock:
                self._input.extend(data)
            self.on_input()
        await self.drain(trio.current_time() + LAST_WORDS_SECONDS)

    async def _input_room(self) -> int:
        """How many bytes the guest can take, once it can take any."""
        while True:
            with self._lock:
                room = INPUT_LIMIT - len(self._input)
                self._take_awaited = room == 0
            if room:
                return room
            await self._input_taken.wait()


async def _until_broken(
    pump: Callable[[trio.abc.Stream], Awaitable[None]], stream: trio.abc.Stream, scope: trio.CancelScope
) -> None:
    """Run one direction; its end, or the stream's, is the end of both."""
    try:
        await pump(stream)
    except trio.BrokenResourceError as error:
        _log.debug("stream broke: %s", error.__cause__ or error)
    scope.cancel()

"""Line: a two-way line of bytes between a guest's device (vCPU threads) and a stream (trio)."""

from __future__ import annotations

from stratovirt.native._native import ffi, lib

OUTPUT_LIMIT: int = lib.OUTPUT_LIMIT
"""Bytes of output kept, for a slow reader or for the next one. Precedent: QEMU's ringbuf default."""

INPUT_LIMIT: int = lib.INPUT_LIMIT
"""Bytes taken from the stream ahead of the guest; more stays with the sender, who then waits."""


class Line:
    """Both buffers. Without a reader attached, the oldest output makes room for the newest.

    :param output_ready: eventfd written when output comes after :meth:`peek` found none.
    :param input_taken: eventfd written when the device makes room after :meth:`input_room` found none.
    """

    def __init__(self, output_ready: int, input_taken: int) -> None:
        self.handle = ffi.gc(lib.line_new(output_ready, input_taken), lib.line_free)
        if self.handle == ffi.NULL:
            raise MemoryError

    # The device's side: vCPU threads. Never blocks.

    def put(self, byte: int) -> None:
        """Take one byte (0–255) of the guest's output. Without :meth:`room` it is dropped and counted."""
        lib.line_put(self.handle, byte)

    def room(self) -> bool:
        """Will the next byte be kept for a reader? False is remembered: :meth:`room_was_awaited`."""
        return bool(lib.line_room(self.handle))

    def take(self) -> int | None:
        """The next byte of input, or None when there is none."""
        byte = int(lib.line_take(self.handle))
        return None if byte < 0 else byte

    # The stream's side.

    def set_attached(self, attached: bool) -> None:
        """Say whether somebody reads: then output is never overwritten."""
        lib.line_set_attached(self.handle, attached)

    def peek(self, size: int) -> bytes:
        """The oldest output, which stays; ``b""``: there is none, and ``output_ready`` will tell."""
        chunk = ffi.new("uint8_t[]", size)
        return bytes(ffi.buffer(chunk, lib.line_peek(self.handle, chunk, size)))

    def drop(self, count: int) -> None:
        """Forget so much of the oldest output: it is delivered."""
        lib.line_drop(self.handle, count)

    def unsent(self) -> int:
        """Bytes of output that are there."""
        return int(lib.line_unsent(self.handle))

    def room_was_awaited(self) -> bool:
        """Has :meth:`room` said no since this was asked?"""
        return bool(lib.line_room_was_awaited(self.handle))

    def input_room(self) -> int:
        """Bytes of input that fit; 0: none, and ``input_taken`` will tell."""
        return int(lib.line_input_room(self.handle))

    def feed(self, data: bytes | bytearray) -> None:
        """Add input, no more than :meth:`input_room`."""
        lib.line_feed(self.handle, bytes(data), len(data))

    def dropped(self) -> int:
        """Bytes of output that no reader has seen: off the scrollback's end, or written without room."""
        return int(lib.line_dropped(self.handle))

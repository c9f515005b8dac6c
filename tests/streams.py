"""Reading what a guest sends, under a deadline."""

from __future__ import annotations

import trio


async def read_exactly(stream: trio.abc.ReceiveStream, length: int, *, seconds: float) -> bytes:
    """So many bytes.

    :raises AssertionError: the stream ends before.
    :raises trio.TooSlowError: they do not come in time.
    """
    data = bytearray()
    with trio.fail_after(seconds):
        while len(data) < length:
            more = await stream.receive_some(length - len(data))
            assert more
            data += more
    return bytes(data)

"""The stream port: what a device puts is what a reader reads, and the other way round, whoever is slow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from stratovirt.chardev.streamport import INPUT_LIMIT, OUTPUT_LIMIT, StreamPort

DEADLINE = 20.0


@asynccontextmanager
async def attached(port: StreamPort) -> AsyncIterator[trio.SocketStream]:
    """A reader's end of a real socket whose other end is attached."""
    ours, theirs = (trio.SocketStream(s) for s in trio.socket.socketpair())
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(DEADLINE):
            yield theirs
        nursery.cancel_scope.cancel()


async def read_exactly(stream: trio.abc.ReceiveStream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = await stream.receive_some(length - len(data))
        assert more, f"end after {len(data)} of {length} bytes"
        data += more
    return data


def pattern(length: int) -> bytes:
    return bytes(number * 7 & 0xFF for number in range(length))


async def test_a_slow_reader_loses_nothing_of_a_device_that_asks_for_room() -> None:
    port, data = StreamPort(), pattern(3 * OUTPUT_LIMIT)
    left = bytearray(data)

    def put_what_there_is_room_for() -> None:
        room = port.room()
        if left and room:
            port.put(bytes(left[:room]))
            del left[:room]

    port.on_room = put_what_there_is_room_for
    async with attached(port) as reader:
        put_what_there_is_room_for()
        assert port.room() == 0
        assert await read_exactly(reader, len(data)) == data


async def test_input_waits_with_its_sender_until_the_device_takes_it() -> None:
    port, data = StreamPort(), pattern(4 * INPUT_LIMIT)
    taken = bytearray()
    async with attached(port) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(writer.send_all, data)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(port._input) == INPUT_LIMIT, "no more than this is taken ahead"
        while len(taken) < len(data):
            taken += port.take(1000)
            assert len(port._input) <= INPUT_LIMIT
            await trio.testing.wait_all_tasks_blocked()
    assert taken == data
    assert not port.has_input()


async def test_input_is_told_of() -> None:
    port, told = StreamPort(), trio.Event()
    port.on_input = told.set
    async with attached(port) as writer:
        await writer.send_all(b"x")
        await told.wait()
        assert port.take(10) == b"x"


async def test_a_late_reader_gets_the_last_of_what_was_put_and_the_next_what_came_since() -> None:
    port, data = StreamPort(), pattern(OUTPUT_LIMIT + 1000)
    for start in range(0, len(data), 4096):
        assert port.room() == OUTPUT_LIMIT, "nobody reads, so nobody is waited for"
        port.put(data[start : start + 4096])
    async with attached(port) as reader:
        assert await read_exactly(reader, OUTPUT_LIMIT) == data[1000:]
    port.put(b"later")
    async with attached(port) as reader:
        assert await read_exactly(reader, 5) == b"later"


async def test_a_reader_that_goes_makes_room() -> None:
    port, room = StreamPort(), trio.Event()
    async with attached(port):
        port.on_room = room.set
        port.put(bytes(OUTPUT_LIMIT))
        assert port.room() == 0
    assert room.is_set()
    assert port.room() == OUTPUT_LIMIT


async def test_one_stream_at_a_time() -> None:
    port = StreamPort()
    async with attached(port):
        with pytest.raises(trio.BusyResourceError):
            await port.attach(trio.testing.memory_stream_pair()[0])


async def test_draining_waits_for_a_reader_and_not_for_nobody() -> None:
    port = StreamPort()
    port.put(b"kept")
    assert not await port.drain(trio.current_time() + DEADLINE)
    async with attached(port):
        assert await port.drain(trio.current_time() + DEADLINE)


async def test_who_only_closes_the_sending_half_gets_the_rest(autojump_clock: trio.abc.Clock) -> None:
    port = StreamPort()
    port.put(b"the rest")
    async with attached(port) as reader:
        await reader.send_eof()
        assert await read_exactly(reader, 8) == b"the rest"

"""The byte port: what the guest writes is what a reader reads, and the other way round, whatever the
chunks, the speed of the reader, and the moment it comes or goes. The guest is a real thread.

Tests of timing use trio's mock clock: time stands still unless the test moves it.
"""

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.chardev.port import GATHER_SECONDS, INPUT_LIMIT, OUTPUT_CHUNK, OUTPUT_LIMIT, BytePort

DEADLINE = 20.0


class Guest:
    """The device on its vCPU thread: waits for interrupts, not for trio."""

    def __init__(self, port: BytePort) -> None:
        self._port = port
        self._interrupt = threading.Event()
        port.on_room = port.on_input = self._interrupt.set

    def write(self, data: bytes) -> None:
        for byte in data:
            while not self._port.room():
                self._wait()
            self._port.put(byte)

    def read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            byte = self._port.take()
            if byte is None:
                self._wait()
            else:
                data.append(byte)
        return bytes(data)

    def _wait(self) -> None:
        if not self._interrupt.wait(DEADLINE):
            raise TimeoutError("no interrupt came")
        self._interrupt.clear()


async def read_exactly(stream: trio.abc.ReceiveStream, length: int, at_once: int = 65536) -> bytes:
    data = b""
    while len(data) < length:
        more = await stream.receive_some(min(at_once, length - len(data)))
        assert more, f"end after {len(data)} of {length} bytes"
        data += more
    return data


@asynccontextmanager
async def attached(port: BytePort) -> AsyncIterator[trio.SocketStream]:
    """A reader's end of a real socket whose other end is attached."""
    ours, theirs = (trio.SocketStream(s) for s in trio.socket.socketpair())
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        with trio.fail_after(DEADLINE):
            yield theirs
        nursery.cancel_scope.cancel()


def put_all(port: BytePort, data: bytes) -> None:
    for byte in data:
        port.put(byte)


def take_all(port: BytePort) -> bytes:
    return bytes(iter(port.take, None))


@pytest.fixture
def port() -> Iterator[BytePort]:
    port = BytePort()
    yield port
    port.close()


async def test_a_slow_reader_of_a_small_socket_loses_nothing(port: BytePort) -> None:
    data = bytes(i * 7 & 0xFF for i in range(3 * OUTPUT_LIMIT))
    async with attached(port) as reader, trio.open_nursery() as nursery:
        reader.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        nursery.start_soon(trio.to_thread.run_sync, Guest(port).write, data)
        assert await read_exactly(reader, len(data), at_once=1000) == data
    assert port.dropped == 0


async def test_a_flood_of_input_reaches_the_guest_whole(port: BytePort) -> None:
    data = bytes(i * 11 & 0xFF for i in range(50_000))
    async with attached(port) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(writer.send_all, data)
        assert await trio.to_thread.run_sync(Guest(port).read, len(data)) == data


async def test_both_directions_flow_at_the_same_time(port: BytePort) -> None:
    out, back = b"out" * 20_000, b"back" * 5_000
    guest = Guest(port)
    async with attached(port) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, back)
        nursery.start_soon(trio.to_thread.run_sync, guest.write, out)
        assert await read_exactly(peer, len(out)) == out
        assert await trio.to_thread.run_sync(guest.read, len(back)) == back


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=3 * OUTPUT_CHUNK), max_size=8), st.integers(1, 5000))
def test_output_is_the_same_however_it_is_cut(writes: list[bytes], at_once: int) -> None:
    async def exchange() -> bytes:
        async with attached(port) as reader, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, write_all)
            return await read_exactly(reader, len(b"".join(writes)), at_once)

    def write_all() -> None:
        for data in writes:
            guest.write(data)

    port = BytePort()
    guest = Guest(port)
    assert trio.run(exchange) == b"".join(writes)
    port.close()


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=3 * INPUT_LIMIT), max_size=8))
def test_input_is_the_same_however_it_is_cut(sends: list[bytes]) -> None:
    async def send_all(stream: trio.abc.SendStream) -> None:
        for data in sends:
            await stream.send_all(data)

    async def exchange() -> bytes:
        async with attached(port) as writer, trio.open_nursery() as nursery:
            nursery.start_soon(send_all, writer)
            return await trio.to_thread.run_sync(guest.read, len(b"".join(sends)))

    port = BytePort()
    guest = Guest(port)
    assert trio.run(exchange) == b"".join(sends)
    port.close()


async def test_a_late_reader_gets_the_scrollback_first(port: BytePort) -> None:
    put_all(port, b"booting... ")
    async with attached(port) as reader:
        assert await read_exactly(reader, 11) == b"booting... "
        put_all(port, b"login: ")
        assert await read_exactly(reader, 7) == b"login: "


async def test_the_scrollback_keeps_the_newest_bytes_and_counts_the_rest(port: BytePort) -> None:
    data = bytes(i * 13 & 0xFF for i in range(OUTPUT_LIMIT + 1000))
    put_all(port, data)
    assert port.room()
    assert port.dropped == 1000
    async with attached(port) as reader:
        assert await read_exactly(reader, OUTPUT_LIMIT) == data[1000:]


async def test_what_a_broken_reader_did_not_get_waits_for_the_next(port: BytePort) -> None:
    async with attached(port) as reader:
        put_all(port, b"first")
        assert await read_exactly(reader, 5) == b"first"
    put_all(port, b"second")
    async with attached(port) as reader:
        assert await read_exactly(reader, 6) == b"second"


async def test_output_that_failed_to_be_sent_is_sent_again_to_the_next_reader(port: BytePort) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    put_all(port, b"kept")
    await port.attach(ours)
    async with attached(port) as reader:
        assert await read_exactly(reader, 4) == b"kept"


async def test_a_port_has_one_reader_at_a_time(port: BytePort) -> None:
    async with attached(port):
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await port.attach(trio.testing.memory_stream_pair()[0])


async def test_a_guest_without_room_is_told_when_there_is_some(port: BytePort) -> None:
    told = trio.Event()
    port.on_room = told.set
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        put_all(port, bytes(OUTPUT_LIMIT))
        assert not port.room()
        await read_exactly(theirs, OUTPUT_CHUNK)
        with trio.fail_after(DEADLINE):
            await told.wait()
        assert port.room()
        nursery.cancel_scope.cancel()


async def test_a_guest_without_room_is_told_when_the_reader_goes(port: BytePort) -> None:
    told = trio.Event()
    port.on_room = told.set
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        put_all(port, bytes(OUTPUT_LIMIT))
        assert not port.room()
        await theirs.aclose()
    assert told.is_set()
    assert port.room()


async def test_a_guest_that_ignores_room_loses_only_its_newest_bytes(port: BytePort) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        put_all(port, b"a" * OUTPUT_LIMIT + b"lost")
        assert port.dropped == 4
        assert await read_exactly(theirs, OUTPUT_LIMIT) == b"a" * OUTPUT_LIMIT
        nursery.cancel_scope.cancel()


async def test_no_more_input_is_read_than_the_guest_can_take(port: BytePort) -> None:
    async with attached(port) as writer:
        await writer.send_all(b"i" * 1000)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(take_all(port)) == INPUT_LIMIT
        guest = Guest(port)
        assert await trio.to_thread.run_sync(guest.read, 1000 - INPUT_LIMIT) == b"i" * (1000 - INPUT_LIMIT)


async def test_input_outlives_the_client_that_sent_it(port: BytePort) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"reboot\n")
    await theirs.aclose()
    await port.attach(ours)
    assert take_all(port) == b"reboot\n"


async def test_a_client_that_only_stops_sending_still_gets_what_is_there(port: BytePort) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    put_all(port, b"scrollback")
    await theirs.send_eof()
    await port.attach(ours)
    assert await theirs.receive_some() == b"scrollback"


async def test_the_first_byte_after_a_silence_goes_out_at_once(
    port: BytePort, mock_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        for key in b"ls":
            port.put(key)
            assert await theirs.receive_some() == bytes([key])
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(GATHER_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_output_in_a_row_goes_out_in_one_piece_and_wakes_nobody(
    port: BytePort, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[int] = []
    read = os.eventfd_read
    monkeypatch.setattr(os, "eventfd_read", lambda fd: wakes.append(read(fd)))
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        port.put(ord("h"))
        assert await theirs.receive_some() == b"h"
        put_all(port, b"ello")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GATHER_SECONDS)
        assert await theirs.receive_some() == b"ello"
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GATHER_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert wakes == [1]
        nursery.cancel_scope.cancel()


async def test_drain_waits_until_the_last_byte_is_written(port: BytePort) -> None:
    data = b"Power down\n" * 2000
    async with attached(port) as reader, trio.open_nursery() as nursery:
        await trio.testing.wait_all_tasks_blocked()
        put_all(port, data)
        received: list[bytes] = []

        async def read() -> None:
            received.append(await read_exactly(reader, len(data)))

        nursery.start_soon(read)
        assert await port.drain(trio.current_time() + DEADLINE)
    assert received == [data]


async def test_drain_gives_up_on_a_stuck_reader_at_its_deadline(
    port: BytePort, autojump_clock: trio.testing.MockClock
) -> None:
    ours, _ = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.attach, ours)
        await trio.testing.wait_all_tasks_blocked()
        port.put(0)
        start = trio.current_time()
        assert not await port.drain(start + 3)
        assert trio.current_time() == start + 3
        nursery.cancel_scope.cancel()


async def test_drain_does_not_wait_for_a_reader_that_may_never_come(port: BytePort) -> None:
    port.put(0)
    with trio.fail_after(DEADLINE):
        assert not await port.drain(trio.current_time() + 10 * DEADLINE)

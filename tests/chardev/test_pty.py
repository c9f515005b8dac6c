"""A pty is there for whoever opens its slave, again and again, and nobody has to."""

import os
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Handler
from stratovirt.chardev.pty import Pty

DEADLINE = 20.0


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty("serial0")
    pty.open()
    yield pty
    pty.close()


@asynccontextmanager
async def console(pty: Pty, handler: Handler | None = None) -> AsyncIterator[BytePort]:
    """A port that the pty serves, with ``attach`` unless the test has a handler of its own."""
    port = BytePort()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pty.serve, handler or port.attach)
        with trio.fail_after(DEADLINE):
            yield port
        nursery.cancel_scope.cancel()
    port.close()


def open_slave(pty: Pty) -> trio.lowlevel.FdStream:
    return trio.lowlevel.FdStream(os.open(pty.path, os.O_RDWR | os.O_NOCTTY))


def put_all(port: BytePort, data: bytes) -> None:
    for byte in data:
        port.put(byte)


async def input_of(port: BytePort, length: int) -> bytes:
    """The guest's next input, waited for as an interrupt is."""
    data = bytearray()
    while len(data) < length:
        came = trio.Event()
        port.on_input = came.set
        data += bytes(iter(port.take, None))
        if len(data) < length:
            await came.wait()
    return bytes(data)


def test_open_says_where_the_slave_is(pty: Pty, capsys: pytest.CaptureFixture[str]) -> None:
    pty.open()
    assert os.path.exists(pty.path)
    assert pty.filename == f"pty:{pty.path}"
    other = Pty("serial1")
    other.open()
    assert capsys.readouterr().err == f"char device redirected to {other.path} (label serial1)\n"
    other.close()


def test_the_slave_is_raw(pty: Pty) -> None:
    slave = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
    lflag = termios.tcgetattr(slave)[tty.LFLAG]
    os.close(slave)
    assert not lflag & (termios.ECHO | termios.ICANON)


async def test_bytes_go_both_ways(pty: Pty) -> None:
    async with console(pty) as port, open_slave(pty) as terminal:
        put_all(port, b"login: ")
        assert await terminal.receive_some() == b"login: "
        await terminal.send_all(b"root\r")
        assert await input_of(port, 5) == b"root\r"


async def test_each_opening_of_the_slave_gets_what_came_while_it_was_closed(pty: Pty) -> None:
    left = trio.Event()

    async def handler(stream: trio.abc.Stream) -> None:
        await port.attach(stream)
        left.set()

    async with console(pty, handler) as port:
        for greeting in (b"first", b"second", b"third"):
            left = trio.Event()
            put_all(port, greeting)
            async with open_slave(pty) as terminal:
                assert await terminal.receive_some() == greeting
            await left.wait()


async def test_without_a_reader_the_guest_always_has_room(pty: Pty) -> None:
    async with console(pty) as port:
        put_all(port, bytes(200_000))
        assert port.room()
        assert not port.attached


def test_closing_twice_is_closing_once(pty: Pty) -> None:
    pty.close()
    pty.close()
    assert not os.path.exists(pty.path)

"""Character devices come and go while a machine runs; nobody takes one from its user."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.sinks import Null, RingBuffer
from stratovirt.errors import CommandError
from stratovirt.machine.chardevs import ChardevRequest
from stratovirt.machine.info import ChardevInfo
from stratovirt.nursery.chardevs import ChardevControl, Chardevs


class FakeMachine:
    """A machine in a state that allows everything."""

    @asynccontextmanager
    async def changing(self, command: str) -> AsyncIterator[None]:
        yield


class Here:
    """A run with a console on ``serial0``."""

    def __init__(self) -> None:
        self.chardevs = Chardevs()
        self.control = ChardevControl(FakeMachine(), self.chardevs)
        self.chardevs.add(Null("serial0"))
        self.chardevs.use("serial0", "the serial port")


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    here = Here()
    yield here
    here.chardevs.close()


async def written(chardev: Chardev, data: bytes) -> None:
    await chardev.serve(lambda stream: stream.send_all(data))


async def test_what_is_added_is_open_and_listed(here: Here, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    await here.control.add(ChardevRequest("s", "unix", path=path, server=True))
    await here.control.add(ChardevRequest("f", "file", path=f"{tmp_path}/log"))
    pty = await here.control.add(ChardevRequest("p", "pty"))
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert (tmp_path / "log").exists()
    assert stat.S_ISCHR(os.stat(pty.filename.removeprefix("pty:")).st_mode)
    assert here.control.list() == [
        ChardevInfo("serial0", "null", in_use=True),
        ChardevInfo("s", f"unix:{path},server=on", in_use=False),
        ChardevInfo("f", "file", in_use=False),
        ChardevInfo("p", pty.filename, in_use=False),
    ]


async def test_what_is_removed_is_closed_and_can_be_added_again(here: Here, tmp_path: Path) -> None:
    request = ChardevRequest("s", "unix", path=str(tmp_path / "socket"), server=True)
    for _ in range(2):
        await here.control.add(request)
        await here.control.remove("s")
        assert not os.path.lexists(request.path)


async def test_a_client_is_connected_when_it_is_there(here: Here, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        await here.control.add(ChardevRequest("c", "unix", path=str(tmp_path / "socket")))
        with listener.accept()[0] as peer:
            await here.control.remove("c")
            assert peer.recv(1) == b""


async def test_one_in_use_stays_until_its_user_is_gone(here: Here) -> None:
    with pytest.raises(CommandError, match='"serial0" is in use by the serial port'):
        await here.control.remove("serial0")
    here.chardevs.release("serial0", "somebody else")
    with pytest.raises(CommandError, match="in use"):
        await here.control.remove("serial0")
    here.chardevs.release("serial0", "the serial port")
    await here.control.remove("serial0")
    assert here.control.list() == []


async def test_refusals_name_what_is_wrong_and_change_nothing(here: Here, tmp_path: Path) -> None:
    for attempt, desc in (
        (here.control.add(ChardevRequest("serial0", "null")), 'there is a chardev "serial0" already'),
        (here.control.add(ChardevRequest("f", "file", path="/no/dir/log")), "chardev-add: /no/dir/log"),
        (here.control.add(ChardevRequest("c", "unix", path=f"{tmp_path}/none")), "cannot connect"),
        (here.control.add(ChardevRequest("t", "inet", host="example", port=1)), "chardev-add: .*example"),
        (here.control.add(ChardevRequest("r", "ringbuf", size=3)), "3 is not a power of two"),
        (here.control.remove("nobody"), 'chardev-remove: there is no chardev "nobody"'),
    ):
        with pytest.raises(CommandError, match=desc):
            await attempt
    assert [chardev.label for chardev in here.control.list()] == ["serial0"]


async def test_only_a_ring_buffer_can_be_read(here: Here) -> None:
    await here.control.add(ChardevRequest("ring", "ringbuf", size=4))
    await written(here.chardevs["ring"], b"123456")
    assert here.control.read("ring", 1) == b"3"
    assert here.control.read("ring", 100) == b"456"
    assert isinstance(here.chardevs["ring"], RingBuffer)
    for id, desc in (("serial0", 'the chardev "serial0" is no ring buffer'), ("x", 'no chardev "x"')):
        with pytest.raises(CommandError, match=desc):
            here.control.read(id, 1)


async def test_all_that_are_left_are_closed_at_the_end(tmp_path: Path) -> None:
    here = Here()
    await here.control.add(ChardevRequest("s", "unix", path=str(tmp_path / "socket"), server=True))
    here.chardevs.close()
    assert not (tmp_path / "socket").exists()
    await trio.lowlevel.checkpoint()

"""Descriptors by SCM_RIGHTS: named in both habits of clients, kept by the machine, never leaked."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from stratovirt.qmp import descriptors
from tests.protocol.client import Client
from tests.protocol.fakes import Supervision, supervised
from tests.protocol.sockets import connected, listening, send_with


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; its writing end is the test's to close."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


def getfd(name: str) -> bytes:
    return b'{"execute":"getfd","arguments":{"fdname":"%s"}}' % name.encode()


async def pass_away(client: Client, fd: int, name: str) -> None:
    """Have ``fd`` named by the server and close it here."""
    await send_with(client, getfd(name), [fd], "getfd")
    os.close(fd)
    assert await client.answer() == {"return": {}}


def is_open_elsewhere(reading: int) -> bool:
    """Has somebody the writing end of this pipe?"""
    os.set_blocking(reading, False)
    try:
        return os.read(reading, 1) != b""
    except BlockingIOError:
        return True


def named(here: Supervision) -> int:
    return len(here.server.dispatcher.context.named)


async def test_one_that_comes_with_the_command_is_kept_until_closefd(tmp_path: Path) -> None:
    with pipe() as (reading, writing):
        async with listening(tmp_path / "qmp") as here, connected(tmp_path / "qmp") as client:
            await pass_away(client, writing, "fd1")
            assert is_open_elsewhere(reading)
            assert await client.execute("closefd", {"fdname": "fd1"}) == {"return": {}}
            assert not is_open_elsewhere(reading)
            assert named(here) == 0


async def test_one_that_comes_on_a_lone_space_before_the_command_is_the_same(tmp_path: Path) -> None:
    with pipe() as (reading, writing):
        async with listening(tmp_path / "qmp"), connected(tmp_path / "qmp") as client:
            await send_with(client, b" ", [writing])
            os.close(writing)
            assert await client.execute("getfd", {"fdname": "fd1"}) == {"return": {}}
            assert is_open_elsewhere(reading)
            await client.execute("closefd", {"fdname": "fd1"})
            assert not is_open_elsewhere(reading)


async def test_it_is_closed_on_exec_and_the_very_file_that_was_sent(tmp_path: Path) -> None:
    with pipe() as (reading, writing):
        async with listening(tmp_path / "qmp") as here, connected(tmp_path / "qmp") as client:
            await pass_away(client, writing, "fd1")
            fd = here.server.dispatcher.context.named.take("netdev_add", "fd1")
            assert not os.get_inheritable(fd)
            os.write(fd, b"x")
            os.close(fd)
            assert os.read(reading, 2) == b"x"


async def test_a_pipeline_of_them_is_named_in_its_order(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here, connected(tmp_path / "qmp") as client:
        ends = [os.pipe() for _ in range(3)]
        for number, (_, writing) in enumerate(ends):
            await send_with(client, getfd(str(number)), [writing], "getfd")
            os.close(writing)
        for _ in ends:
            assert await client.answer() == {"return": {}}
        for number, (reading, _) in enumerate(ends):
            fd = here.server.dispatcher.context.named.take("netdev_add", str(number))
            os.write(fd, b"%d" % number)
            os.close(fd)
            assert os.read(reading, 2) == b"%d" % number
            os.close(reading)


async def test_the_same_name_again_closes_and_replaces_the_first(tmp_path: Path) -> None:
    with pipe() as (first, writing), pipe() as (second, other):
        async with listening(tmp_path / "qmp") as here, connected(tmp_path / "qmp") as client:
            await pass_away(client, writing, "fd1")
            await pass_away(client, other, "fd1")
            assert not is_open_elsewhere(first)
            assert is_open_elsewhere(second)
            assert named(here) == 1


async def test_a_name_survives_its_client_and_not_the_server(tmp_path: Path) -> None:
    with pipe() as (reading, writing):
        async with listening(tmp_path / "qmp"):
            async with connected(tmp_path / "qmp") as client:
                await pass_away(client, writing, "fd1")
            async with connected(tmp_path / "qmp") as client:
                assert "not found" in (await client.execute("closefd", {"fdname": "fd2"}))["error"]["desc"]
                assert is_open_elsewhere(reading)
        assert not is_open_elsewhere(reading)


async def test_those_without_a_name_are_closed_when_their_client_goes(tmp_path: Path) -> None:
    with pipe() as (reading, writing):
        async with listening(tmp_path / "qmp") as here:
            async with connected(tmp_path / "qmp") as client:
                await send_with(client, b'{"execute":"query-status"}', [writing, writing], "query-status")
                os.close(writing)
                assert "return" in await client.answer()
                assert is_open_elsewhere(reading)
            await trio.testing.wait_all_tasks_blocked()
            assert here.server.statistics() == []
            assert not is_open_elsewhere(reading)


async def test_one_client_cannot_name_anothers(tmp_path: Path) -> None:
    with pipe() as (_, writing):
        async with listening(tmp_path / "qmp"), connected(tmp_path / "qmp") as client:
            await send_with(client, b" ", [writing])
            os.close(writing)
            async with connected(tmp_path / "qmp") as other:
                refused = await other.execute("getfd", {"fdname": "fd1"})
                assert "no file descriptor has come for 'fd1'" in refused["error"]["desc"]


async def test_a_refused_getfd_takes_none(tmp_path: Path) -> None:
    with pipe() as (_, writing):
        async with listening(tmp_path / "qmp"), connected(tmp_path / "qmp") as client:
            await send_with(client, b" ", [writing])
            os.close(writing)
            assert "'fdname' is missing" in (await client.execute("getfd"))["error"]["desc"]
            assert await client.execute("getfd", {"fdname": "fd1"}) == {"return": {}}


async def test_beyond_the_limit_of_unnamed_ones_the_newest_are_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(tmp_path / "qmp"), connected(tmp_path / "qmp") as client:
        before = len(os.listdir("/proc/self/fd"))
        with pipe() as (_, writing):
            for _ in range(3):
                await send_with(client, b" ", [writing] * descriptors.MAX_WAITING)
            os.close(writing)
        assert "return" in await client.execute("query-status")
        assert len(os.listdir("/proc/self/fd")) == before + descriptors.MAX_WAITING
    assert "may have 16 without a name" in caplog.text


async def test_beyond_the_limit_of_names_it_is_refused_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "MAX_NAMED", 1)
    with pipe() as (first, writing), pipe() as (second, other):
        async with listening(tmp_path / "qmp"), connected(tmp_path / "qmp") as client:
            await pass_away(client, writing, "fd1")
            await send_with(client, getfd("fd2"), [other], "getfd")
            os.close(other)
            assert "1 descriptors have names" in (await client.answer())["error"]["desc"]
            assert is_open_elsewhere(first)
            assert not is_open_elsewhere(second)


async def test_a_connection_that_cannot_carry_any_says_so() -> None:
    async with supervised() as here:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        here.nursery.start_soon(trio.serve_listeners, here.server.serve_client, [listener])
        async with await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as stream:
            client = Client(stream)
            await client.greeting()
            refused = await client.execute("getfd", {"fdname": "fd1"})
            assert "only a unix socket can" in refused["error"]["desc"]


async def test_a_client_that_resets_its_connection_ends_its_session_only(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here, connected(tmp_path / "qmp") as witness:
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(tmp_path / "qmp"))  # its greeting is never read: closing is a reset
            assert "return" in await witness.execute("query-status")
        while len(here.server.statistics()) > 1:
            await trio.testing.wait_all_tasks_blocked()
        assert "return" in await witness.execute("query-status")

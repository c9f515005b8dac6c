"""``check_qmp_server`` passes real servers, and names what is wrong with others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from stratovirt.testing import (
    QEMU,
    STRATOVIRT,
    NotConforming,
    Throttle,
    check_qmp_server,
    open_socket,
    started,
)
from stratovirt.testing.conformance.suite import CHECKS
from tests.protocol.fakes import Supervision, supervised

QEMU_COMMAND = "qemu-system-x86_64"


@pytest.mark.parametrize("rejects", [False, True])
async def test_stratovirt_conforms(tmp_path: Path, rejects: bool) -> None:
    path = tmp_path / "qmp.sock"
    throttle = "reject" if rejects else "delay"
    options = ("-machine", "none", "-qmp", f"unix:{path},server,nowait,throttle={throttle}")
    dialect = replace(STRATOVIRT, throttle=Throttle(rate=100, capacity=100, rejects=rejects))
    async with started(*options, directory=tmp_path) as vm:
        names = await check_qmp_server(lambda: open_socket(path), dialect=dialect, ends=True)
        assert len(set(names)) == len(CHECKS) + 1
        assert await vm.exit_code() == 0
        assert "Traceback" not in vm.stderr()


@pytest.mark.skipif(shutil.which(QEMU_COMMAND) is None, reason=f"no {QEMU_COMMAND} on PATH")
async def test_qemu_conforms_in_its_own_dialect(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    options = ("-machine", "none", "-display", "none", "-qmp", f"unix:{path},server,nowait")
    async with started(*options, directory=tmp_path, command=(QEMU_COMMAND,)):
        await check_qmp_server(lambda: open_socket(path), dialect=QEMU)
        with pytest.raises(NotConforming) as caught:
            await check_qmp_server(lambda: open_socket(path), dialect=replace(QEMU, exact_integers=True))
        assert list(caught.value.failures) == ["an integer beyond 64 bits is treated as the dialect says"]
        await check_qmp_server(lambda: open_socket(path), dialect=QEMU, ends=True)


async def test_a_session_over_memory_streams_conforms() -> None:
    async with supervised() as here:
        await check_qmp_server(partial(connected, here))


async def connected(here: Supervision) -> trio.abc.HalfCloseableStream:
    """The client's end of a new session."""
    near, far = trio.testing.memory_stream_pair()
    here.nursery.start_soon(here.server.serve_client, far)
    return near


class Mangled(trio.abc.HalfCloseableStream):
    """A connection to a good server, seen through something that spoils what it says."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, spoil: Callable[[bytes], bytes]) -> None:
        self._stream = stream
        self._spoil = spoil

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return self._spoil(bytes(await self._stream.receive_some(max_bytes)))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize(
    ("before", "after", "named", "reason"),
    [
        (b'"id":true', b'"id":1', "an id of any json type is echoed", "id True comes back as 1"),
        (b"CommandNotFound", b"GenericError", "an unknown command is command not found with its name", "G"),
        (b'"event":"STOP"', b'"event":"PAUSE"', "stop and cont tell their events before they answer", "P"),
        (b"surprise", b"s", "an unknown argument is refused by its name", "desc does not name it"),
        (b"GenericError", b"Throttled", "a malformed request is refused with its id", "know no error class"),
        (b'{"return":', b'{"return": ', "query commands lists what is there", "white space"),
        (b'"desc":', b'"data":{},"desc":', "what is no object is refused", "class and desc"),
        (b'"data":{},', b"", "query status tells paused from running", "without data"),
        (b'"seconds"', b'"s"', "every client is told every event", "timestamp"),
        (b'{"QMP":', b'{"XMP":', "the greeting comes first and unasked", "not one of"),
    ],
)  # fmt: skip
async def test_a_server_that_errs_is_told_where(before: bytes, after: bytes, named: str, reason: str) -> None:
    async with supervised() as here:

        async def connect() -> trio.abc.HalfCloseableStream:
            return Mangled(await connected(here), lambda data: data.replace(before, after))

        with pytest.raises(NotConforming) as caught:
            await check_qmp_server(connect)
    assert reason in caught.value.failures[named]
    assert named in str(caught.value)


async def test_a_server_that_says_nothing_fails_every_check_in_bounded_time(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def connect() -> trio.abc.HalfCloseableStream:
        return trio.testing.memory_stream_pair()[0]

    with pytest.raises(NotConforming) as caught:
        await check_qmp_server(connect)
    assert len(caught.value.failures) == len(CHECKS)

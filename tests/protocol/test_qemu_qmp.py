"""qemu.qmp from PyPI, unmodified, on a unix socket: it negotiates, executes, hears events, reads errors."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from qemu.qmp import ExecuteError, QMPClient

from stratovirt.machine.control import RunState
from tests.protocol.fakes import carry_out_quit
from tests.protocol.sockets import listening

SECONDS = 30


async def visit(path: Path) -> dict[str, Any]:
    """What a program with qemu.qmp sees of the server."""
    client = QMPClient("test")
    seen: dict[str, Any] = {}
    with client.listener(["STOP", "RESUME", "SHUTDOWN"]) as listener:
        await client.connect(str(path))
        assert client.greeting is not None
        seen["greeting"] = client.greeting.QMP.version["qemu"]
        seen["status"] = await client.execute("query-status")
        await client.execute("stop")
        await client.execute("cont")
        seen["events"] = [(await listener.get())["event"] for _ in range(2)]
        seen["pipelined"] = await asyncio.gather(*(client.execute("query-version") for _ in range(20)))
        with pytest.raises(ExecuteError, match="query-stats") as refusal:
            await client.execute("query-stats")
        seen["class"] = refusal.value.error_class
        await client.execute("quit")
        seen["last"] = (await listener.get())["event"]
    with suppress(EOFError):  # the server has hung up, now or in a moment
        await client.disconnect()
    return seen


async def test_its_library_works_unmodified(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here:
        here.nursery.start_soon(carry_out_quit, here.control, here.server)
        with trio.fail_after(SECONDS):
            seen = await trio.to_thread.run_sync(lambda: asyncio.run(visit(tmp_path / "qmp")))
    assert seen["greeting"] == {"micro": 1, "minor": 0, "major": 5}
    assert seen["status"] == {"running": True, "singlestep": False, "status": "running"}
    assert seen["events"] == ["STOP", "RESUME"]
    assert len(seen["pipelined"]) == 20
    assert seen["class"] == "CommandNotFound"
    assert seen["last"] == "SHUTDOWN"


async def send_descriptor(path: Path, fd: int) -> None:
    """Name a descriptor in this library's way: on a space before the command."""
    client = QMPClient("test")
    await client.connect(str(path))
    client.send_fd_scm(fd)
    assert await client.execute("getfd", {"fdname": "fd1"}) == {}
    await client.disconnect()


async def test_its_way_of_sending_descriptors_works(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with listening(tmp_path / "qmp") as here:
        with trio.fail_after(SECONDS):
            await trio.to_thread.run_sync(lambda: asyncio.run(send_descriptor(tmp_path / "qmp", writing)))
        os.close(writing)
        fd = here.server.dispatcher.context.named.take("netdev_add", "fd1")
        os.write(fd, b"x")
        os.close(fd)
    assert os.read(reading, 2) == b"x"
    os.close(reading)


SHELL_LINES = """\
query-status
stop
blockdev-add node-name=drive-0 file={"driver":"file","filename":"/disk"}
query-stats
"""


async def test_its_shell_works_unmodified(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here:
        command = [sys.executable, "-m", "qemu.qmp.qmp_shell", str(tmp_path / "qmp")]
        environment = {**os.environ, "HOME": str(tmp_path)}  # where its history goes
        with trio.fail_after(SECONDS):
            done = await trio.run_process(
                command, stdin=SHELL_LINES.encode(), capture_stdout=True, env=environment
            )
    said = done.stdout.decode()
    assert "Connected to QEMU 5.0.1" in said
    assert '"status": "running"' in said
    assert "CommandNotFound" in said
    assert here.control.state is RunState.PAUSED

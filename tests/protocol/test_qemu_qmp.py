"""qemu.qmp from PyPI, unmodified, on a unix socket: it negotiates, executes, hears events, reads errors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trio
from qemu.qmp import ExecuteError, QMPClient

from stratovirt.qmp.server import QmpServer
from tests.protocol.fakes import FakeControl, carry_out_quit


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
    await client.disconnect()
    return seen


async def test_its_library_works_unmodified(tmp_path: Path) -> None:
    control = FakeControl()
    server = QmpServer(control)
    path = tmp_path / "qmp.sock"
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve_client, [trio.SocketListener(listener)])
        nursery.start_soon(carry_out_quit, control, server)
        with trio.fail_after(30):
            seen = await trio.to_thread.run_sync(lambda: asyncio.run(visit(path)))
        nursery.cancel_scope.cancel()
    assert seen["greeting"] == {"micro": 1, "minor": 0, "major": 5}
    assert seen["status"] == {"running": True, "singlestep": False, "status": "running"}
    assert seen["events"] == ["STOP", "RESUME"]
    assert len(seen["pipelined"]) == 20
    assert seen["class"] == "CommandNotFound"
    assert seen["last"] == "SHUTDOWN"

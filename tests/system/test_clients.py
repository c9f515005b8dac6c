"""Many clients on many monitors manage one machine, and none can hurt another."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from stratovirt.testing import open_socket
from tests.system.qmp import Qmp
from tests.system.vm import started

CLIENTS_PER_MONITOR = 8
ROUNDS = 10
MONITORS = ("first", "second", "third")
SECONDS = 60


def three_monitors(directory: Path) -> list[str]:
    """Two -qmp sockets and one -chardev with -mon."""
    return [
        *("-machine", "none"),
        *("-qmp", f"unix:{directory}/first.sock,server,nowait"),
        *("-qmp", f"unix:{directory}/second.sock,server,nowait"),
        *("-chardev", f"socket,id=third,path={directory}/third.sock,server,nowait"),
        *("-mon", "chardev=third,id=mon0,mode=control"),
    ]


async def get_stuck(directory: Path) -> socket.socket:
    """A client that asks and asks and never reads."""
    stuck = socket.socket(socket.AF_UNIX)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with trio.fail_after(SECONDS):
        async with await open_socket(directory / "first.sock"):
            stuck.connect(str(directory / "first.sock"))
    stuck.sendall(b'{"execute":"query-commands"}' * 100)
    return stuck


async def test_every_client_gets_every_reply_and_event_beside_a_stuck_and_a_killed_one(
    tmp_path: Path,
) -> None:
    async with started(*three_monitors(tmp_path), directory=tmp_path) as vm, AsyncExitStack() as clients:
        stuck = await get_stuck(tmp_path)
        clients.callback(stuck.close)
        everybody = [
            await clients.enter_async_context(vm.qmp(name))
            for name in MONITORS
            for _ in range(CLIENTS_PER_MONITOR)
        ]
        killed = await open_socket(tmp_path / "second.sock")
        await killed.send_all(b'{"execute":"query-st')
        killed.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await killed.aclose()

        async def ask(client: Qmp) -> None:
            for number in range(ROUNDS):
                assert await client.execute("query-status"), number

        with trio.fail_after(SECONDS):
            for _ in range(ROUNDS):
                await everybody[0].execute("stop")
                await everybody[-1].execute("cont")
            async with trio.open_nursery() as nursery:
                for client in everybody:
                    nursery.start_soon(ask, client)
            for client in everybody:
                for _ in range(ROUNDS):
                    await client.wait_event("STOP")
                    await client.wait_event("RESUME")
            await everybody[5].execute("quit")
            for client in everybody:
                await client.wait_event("SHUTDOWN")
        assert await vm.exit_code() == 0


async def test_a_stuck_client_delays_the_end_by_the_flush_deadline_at_most(tmp_path: Path) -> None:
    async with started(*three_monitors(tmp_path), directory=tmp_path) as vm:
        stuck = await get_stuck(tmp_path)
        with stuck:
            async with vm.qmp("second") as qmp:
                await qmp.execute("quit")
                await qmp.wait_event("SHUTDOWN")
            assert await vm.exit_code(10) == 0


async def test_a_client_that_connects_later_sees_no_old_events(tmp_path: Path) -> None:
    async with started(*three_monitors(tmp_path), directory=tmp_path) as vm, vm.qmp("first") as early:
        await early.execute("stop")
        async with vm.qmp("third") as late:
            assert (await late.execute("query-status"))["status"] == "paused"
            assert late.events == []
            await late.execute("quit")
        assert await vm.exit_code() == 0

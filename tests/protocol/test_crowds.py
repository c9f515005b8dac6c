"""Many clients on one socket: every reply right, and nothing of them stays."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from pathlib import Path

import trio
import trio.testing

from tests.protocol.fakes import Supervision
from tests.protocol.sockets import connected, listening

CLIENTS = 200
COMMANDS = 50
WARM_UP = 100
CYCLES = 10_000
"""Of connecting and vanishing."""
BLOCKS_PER_CYCLE = 1
"""Fewer than any object that a session could leave behind would make."""


def held(here: Supervision) -> tuple[int, int, int]:
    """Descriptors, tasks and sessions."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    return len(os.listdir("/proc/self/fd")), tasks, len(here.server.statistics())


async def ask(path: Path, number: int) -> None:
    """A client that pipelines its commands, and checks replies, order and ids."""
    commands = ["query-status", "query-name", "query-cpus", "nonsense", "query-uuid"] * (COMMANDS // 5)
    async with await trio.open_unix_socket(path) as stream:
        for turn, command in enumerate(commands):
            await stream.send_all(json.dumps({"execute": command, "id": [number, turn]}).encode())
        await stream.send_eof()
        received = b"".join([bytes(data) async for data in stream])
    greeting, *answers = [json.loads(line) for line in received.splitlines()]
    assert "QMP" in greeting
    assert [answer["id"] for answer in answers] == [[number, turn] for turn in range(COMMANDS)]
    assert ["return" in answer for answer in answers] == [command != "nonsense" for command in commands]
    assert answers[1]["return"] == {"name": "vm1"}


async def test_two_hundred_clients_at_once_get_every_reply_in_order_and_leave_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here:
        await ask(tmp_path / "qmp", 0)
        await trio.testing.wait_all_tasks_blocked()
        before = held(here)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(ask, tmp_path / "qmp", number)
        await trio.testing.wait_all_tasks_blocked()
        assert held(here) == before


async def vanish(path: Path, here: Supervision, times: int) -> None:
    """Connect and go, before or after the greeting, with or without a command under way."""
    for turn in range(times):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            if turn % 2:
                await trio.testing.wait_all_tasks_blocked()
                client.send([b'{"execute":"query-status"}', b'{"exec'][turn % 4 // 2])
    while here.server.statistics():
        await trio.testing.wait_all_tasks_blocked()


async def test_clients_that_connect_and_vanish_leave_no_descriptor_task_or_memory(tmp_path: Path) -> None:
    async with listening(tmp_path / "qmp") as here:
        await vanish(tmp_path / "qmp", here, WARM_UP)
        gc.collect()
        before, blocks = held(here), sys.getallocatedblocks()
        await vanish(tmp_path / "qmp", here, CYCLES)
        gc.collect()
        assert held(here) == before
        assert sys.getallocatedblocks() - blocks < CYCLES * BLOCKS_PER_CYCLE
        async with connected(tmp_path / "qmp") as client:
            assert "return" in await client.execute("query-status")
            [statistics] = here.server.statistics()
            assert statistics.client == f"QMP client {WARM_UP + CYCLES + 1}", "each of them was served"

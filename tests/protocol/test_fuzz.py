"""Fuzz: any byte stream gives replies or a close, never an exception, a stuck session or a dropped id."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from tests import guests
from tests.protocol.client import check_message
from tests.protocol.fakes import Supervision, supervised
from tests.protocol.fuzz import FLUSHED, KINDS, MARKER, packets, run

CORE_INPUTS = 100_000
SOCKET_INPUTS = 3_000
WITNESSES = 50
"""Clients that take turns at noticing, so that none of them sends 100 commands in a second."""
COVERAGE_INPUTS = 1_000
LEAST_COVERAGE = 90  # percent, of lines and branches


@pytest.mark.parametrize("kind", KINDS)
def test_any_byte_stream_is_answered_and_what_follows_is_understood(kind: str) -> None:
    seen = run(kind, CORE_INPUTS // len(KINDS))
    assert min(seen["Request"], seen["Refusal"]) > 1000, f"a fuzz that sees too little: {seen}"


def test_the_fuzz_takes_nearly_every_branch_of_the_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the sans-io core, by the first inputs of each kind; the table is printed."""
    coverage = [sys.executable, "-m", "coverage"]
    data = f"--data-file={tmp_path}/coverage"
    fuzz = ["--branch", "--include=*/qmp/protocol/*", "-m", "tests.protocol.fuzz", str(COVERAGE_INPUTS)]
    subprocess.run([*coverage, "run", data, *fuzz], cwd=guests.PROJECT, check=True, timeout=300)
    report = subprocess.run(
        [*coverage, "report", data, "--show-missing"], cwd=guests.PROJECT, capture_output=True, text=True
    )
    with capsys.disabled():
        print(f"\n{report.stdout}")

    total = re.search(r"^TOTAL.* (\d+)%", report.stdout, re.MULTILINE)
    assert total is not None, report.stderr
    assert int(total[1]) >= LEAST_COVERAGE


async def one_session(here: Supervision, rng: random.Random, stream: bytes) -> None:
    """Send ``stream`` through a session on a real socket; its end must come, with valid messages up to it."""
    near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    here.nursery.start_soon(here.server.serve_client, far)
    received = bytearray()
    async with near:
        for packet in [*packets(rng, stream), FLUSHED]:
            await near.send_all(packet)
        await near.send_eof()
        with trio.fail_after(30):
            async for data in near:
                received += data
    lines = bytes(received).split(b"\r\n")
    assert lines[-1] == b""
    messages = [check_message(line) for line in lines[:-1]]
    assert "QMP" in messages[0]
    assert [message.get("id") for message in messages if "event" not in message][-1] == MARKER, stream


async def test_so_it_is_through_real_sockets_and_a_witness_never_notices() -> None:
    """No input disturbs another client: one is answered after each of them."""
    async with supervised() as here:
        witnesses = [await here.client() for _ in range(WITNESSES)]
        for number in range(SOCKET_INPUTS):
            rng = random.Random(number)
            await one_session(here, rng, list(KINDS.values())[number % 2](rng))
            witness = witnesses[number % WITNESSES]
            assert (await witness.execute("query-status", id=number))["id"] == number
        with trio.fail_after(30):
            while len(here.server.statistics()) > WITNESSES:
                await trio.testing.wait_all_tasks_blocked()

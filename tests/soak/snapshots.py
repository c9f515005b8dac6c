"""Snapshots in large numbers: of a guest that works, of who is killed meanwhile, and for many machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from tests import guests
from tests.network import namespace
from tests.soak.sanitized import PROJECT
from tests.system.kills import killed_while_saving
from tests.system.test_restore import Template, save, shared_by
from tests.system.test_snapshots import saved_and_restored

KILLS = 20


async def work(rounds: int, smp: int, _number: int, directory: Path) -> None:
    """A guest's work goes on through so many snapshots, each restored by a new process."""
    with namespace() as net:
        net.add_tap("tap0")
        await saved_and_restored(rounds, smp, net, guests.cloud_kernel(), directory)


async def machines_killed(number: int, directory: Path) -> None:
    """KILLS machines are killed while they write a snapshot; from what each leaves, the next goes on."""
    outcome = await killed_while_saving(KILLS, seed=number, directory=directory)
    assert outcome.begun
    assert outcome.written < KILLS


async def template(machines: int, _number: int, directory: Path) -> None:
    """So many machines go on from one template at once, and change nothing of it."""
    made = Template(directory, guests.cloud_kernel())
    await save(made)
    await shared_by(machines, made, directory)


async def writers_killed(number: int, directory: Path) -> None:
    """Each of KILLS writers, killed at a random moment, leaves a whole snapshot; other moments each round."""
    script = [sys.executable, "-m", "tests.migration.crashes"]
    arguments = ["kills", str(directory / "snapshot"), str(KILLS), str(number)]
    done = await trio.run_process(
        [*script, *arguments], cwd=PROJECT, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    assert len(done.stdout.split()) == KILLS

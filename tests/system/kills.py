"""A machine that is killed while it writes a snapshot, again and again, each time going on from the last."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from stratovirt.migration.reader import open_snapshot
from stratovirt.migration.verify import damaged_ranges, verify
from stratovirt.testing.options import sockets
from tests.snapshot.boards import COUNTS
from tests.system.qmp import Qmp
from tests.system.vm import started

MIB = 1 << 20
RAM_MIB = 128
USED_MIB = 64
"""Filled by the kernel, which is long, so that there is something to write."""


class Outcome(NamedTuple):
    """Of so many kills: how often a snapshot was written by then, how often it was begun and not yet."""

    written: int
    begun: int


async def killed_while_saving(kills: int, seed: int, directory: Path) -> Outcome:
    """Kill so many machines at random moments between the request and half as long again as a snapshot takes.

    :raises AssertionError: what lies there then is no whole snapshot, or no machine goes on from it.
    """
    moments = random.Random(seed)
    snapshot, kernel = directory / "snapshot", directory / "kernel"
    kernel.write_bytes(COUNTS + moments.randbytes(USED_MIB * MIB))
    machine = [
        "-machine",
        "microvm,accel=tcg",
        "-m",
        str(RAM_MIB),
        "-kernel",
        str(kernel),
        *sockets(directory),
    ]
    async with started(*machine, directory=directory) as vm, vm.qmp() as qmp:
        await qmp.execute("migrate", uri=f"file:{snapshot}")
        latest = (await qmp.execute("query-migrate"))["total-time"] / 1000 * 1.5
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    written = begun = 0
    for _ in range(kills):
        before = intact(snapshot)
        async with (
            started(*machine, "-incoming", f"file:{snapshot}", directory=directory) as vm,
            vm.qmp() as qmp,
            trio.open_nursery() as nursery,
        ):
            assert (await qmp.execute("query-status"))["status"] in ("inmigrate", "running")
            await qmp.execute("query-cpus-fast")  # answers once the machine is there
            nursery.start_soon(ask_for, snapshot, qmp)
            await trio.sleep(moments.uniform(0, latest))
            vm.process.kill()
            await vm.process.wait()
            nursery.cancel_scope.cancel()
        written += intact(snapshot) != before
        begun += bool(leftovers(directory))
    return Outcome(written, begun)


async def ask_for(snapshot: Path, qmp: Qmp) -> None:
    """Ask for a snapshot, and wait for the reply or the end of the machine."""
    with suppress(EOFError, trio.BrokenResourceError):
        await qmp.execute("migrate", uri=f"file:{snapshot}")


def intact(snapshot: Path) -> str:
    """The identity of the snapshot that lies there; all its memory is what was saved."""
    with open_snapshot(str(snapshot)) as opened:
        assert [*damaged_ranges(verify(opened.memory_fd, opened.image))] == []
        return opened.image.uuid


def leftovers(directory: Path) -> list[Path]:
    """What killed machines have left beside the snapshot; the next removes it."""
    return [path for path in directory.iterdir() if path.name.startswith(".stratovirt-snapshot-")]

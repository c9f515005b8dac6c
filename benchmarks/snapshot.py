"""Saving a guest and restoring it beside QEMU, and saving beside a plain write of the same bytes.

Three Linux guests: a small one and a large one, both idle, and one with a file in RAM. Saving is timed from
the command until all of it is on the disk: ours replies then; QEMU 7.2 migrates into a shell command, which
syncs its file and renames it. The plain write puts what our snapshot has stored into one file and syncs it.
Restoring is timed from exec until the guest has answered on its console. In each round every side saves and
restores once; the saved guests go on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import (
    OURS,
    QEMU,
    SIDES,
    Effort,
    Failed,
    Figure,
    Runs,
    interleave,
    join,
    read_until,
    running,
    vmm,
)
from benchmarks.idle import idle
from benchmarks.load import connected, read_line
from stratovirt.memory.files import data_runs

PLAIN = "plain write"


class Guest(NamedTuple):
    """:ivar memory: in MiB.
    :ivar data: in a file of the guest's tmpfs, which may take half of it; in MiB.
    """

    memory: int
    data: int = 0


class Saving(NamedTuple):
    """A machine that is saved again and again.

    :ivar client: its QMP connection.
    :ivar target: where it is saved: a directory, or a file.
    """

    client: socket.socket
    target: Path


GUESTS = {"128 MiB": Guest(128), "1 GiB, 400 MiB of data": Guest(1024, 400), "4 GiB": Guest(4096)}
FIGURES = [Figure(f"{what}, {name}", "ms") for name in GUESTS for what in ("save", "restore")]
PIECE = 8  # MiB of random data that the guest makes; the rest are copies
SECONDS = 120  # for a guest to be filled, saved or restored
UNLIMITED = 1 << 40  # bytes per second; QEMU's default is 128 MiB
PAGE = 4096


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Each guest in turn."""
    return join(*(_compared(name, guest, effort) for name, guest in GUESTS.items()))


def _compared(name: str, guest: Guest, effort: Effort) -> Mapping[str, Runs]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stratovirt-bench-")))
        machines = {side: stack.enter_context(_filled(side, guest, directory / side)) for side in SIDES}
        sides = {side: partial(_run, side, name, guest, machine) for side, machine in machines.items()}
        return interleave({**sides, PLAIN: partial(_plain, name, machines[OURS].target)}, effort.runs)


@contextmanager
def _filled(side: str, guest: Guest, target: Path) -> Iterator[Saving]:
    with idle(side, memory=guest.memory) as machine, connected(machine.sockets[0]) as client:
        client.settimeout(SECONDS)
        if side == QEMU:
            _execute(client, "migrate-set-parameters", {"max-bandwidth": UNLIMITED})
        make = f"dd if=/dev/urandom of=/tmp/piece bs=1M count={PIECE}"
        copy = f"for i in $(seq {guest.data // PIECE}); do cat /tmp/piece; done >/tmp/data"
        _ask(machine.process, f"{make}; {copy}")
        yield Saving(client, target)


def _run(side: str, name: str, guest: Guest, machine: Saving) -> Mapping[str, float]:
    start = time.monotonic()
    (_save if side == OURS else _save_by_qemu)(machine)
    saved = time.monotonic() - start
    _execute(machine.client, "cont")
    return {f"save, {name}": saved * 1000, f"restore, {name}": _restore(side, guest, machine.target) * 1000}


def _save(machine: Saving) -> None:
    _execute(machine.client, "migrate", {"uri": f"file:{machine.target}"})


def _save_by_qemu(machine: Saving) -> None:
    target, part = machine.target, machine.target.with_suffix(".part")
    target.unlink(missing_ok=True)
    _execute(machine.client, "migrate", {"uri": f"exec:cat >{part} && sync {part} && mv {part} {target}"})
    _wait(target.exists)
    _wait(lambda: _execute(machine.client, "query-status")["status"] == "postmigrate")


def _restore(side: str, guest: Guest, source: Path) -> float:
    """Seconds from exec to an answer on the console; QEMU drops what is typed before its guest runs."""
    path = source.with_suffix(".qmp")
    incoming = f"file:{source}" if side == OURS else f"exec:cat {source}"
    options = ("-m", str(guest.memory), "-smp", "1", "-serial", "stdio", "-incoming", incoming)
    start = time.monotonic()
    with running(vmm(side, *options, "-qmp", f"unix:{path},server,nowait")) as process:
        with connected(path) as client:
            _wait(lambda: bool(_execute(client, "query-status")["running"]))
            _ask(process, "true")
        return time.monotonic() - start


def _plain(name: str, snapshot: Path) -> Mapping[str, float]:
    """Write what ``snapshot`` has stored of RAM once more."""
    with open(snapshot / "memory", "rb") as memory:
        runs = data_runs(memory.fileno(), 0, os.fstat(memory.fileno()).st_size, PAGE)
        data = b"".join(os.pread(memory.fileno(), end - first, first) for first, end in runs)
    target = snapshot.with_suffix(".plain")
    start = time.monotonic()
    with open(target, "wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    seconds = time.monotonic() - start
    target.unlink()
    return {f"save, {name}": seconds * 1000}


def _ask(process: subprocess.Popen[bytes], command: str) -> None:
    """Have the guest's shell run ``command``, and wait for it."""
    assert process.stdin is not None
    process.stdin.write(f"{command}; echo DO''NE\n".encode())  # so that the echo of the line is no answer
    process.stdin.flush()
    read_until(process, b"DONE", SECONDS)


def _execute(client: socket.socket, command: str, arguments: Mapping[str, object] | None = None) -> Any:
    """The value that the server returns; events are passed over."""
    client.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\r\n")
    while True:
        for message in map(json.loads, read_line(client).splitlines()):
            if "error" in message:
                raise Failed(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]


def _wait(ready: Callable[[], bool]) -> None:
    """Probe every millisecond: what is waited for has no event in common."""
    deadline = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise Failed(f"not ready after {SECONDS} s")
        time.sleep(0.001)

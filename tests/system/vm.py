"""A stratovirt process under test: started as its user would, driven over its sockets.

Every wait has an absolute deadline, and every QMP reply and event is validated against schemas/ by the
client.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from tests.system.console import Console
from tests.system.qmp import Qmp, connected
from tests.system.sockets import open_socket

END_SECONDS = 30
PROMPT = b"guest# "
"""Of the test guest's shell."""


class Vm:
    """One running process."""

    def __init__(self, process: trio.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory

    @property
    def pid(self) -> int:
        return self.process.pid

    @asynccontextmanager
    async def qmp(self, name: str = "qmp") -> AsyncIterator[Qmp]:
        """A client on the monitor socket ``name``, after its greeting."""
        async with connected(self.directory / f"{name}.sock") as client:
            yield client

    @asynccontextmanager
    async def console(self, name: str = "console") -> AsyncIterator[Console]:
        """The serial line; what was printed before comes first."""
        stream = await open_socket(self.directory / f"{name}.sock")
        async with stream:
            yield Console(stream)

    async def exit_code(self, seconds: float = END_SECONDS) -> int:
        """Wait for the process's own end."""
        with trio.fail_after(seconds):
            return await self.process.wait()

    def threads(self) -> list[str]:
        """Names of the process's threads."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sorted((task / "comm").read_text().strip() for task in tasks)


def command(*arguments: str) -> list[str]:
    """argv of ``stratovirt`` with ``arguments``."""
    return [sys.executable, "-m", "stratovirt", *arguments]


def sockets(directory: Path, *, monitors: Sequence[str] = ("qmp",)) -> list[str]:
    """Options for a console socket and ``monitors`` in ``directory``."""
    options = ["-chardev", f"socket,id=console,path={directory}/console.sock,server,nowait"]
    options += ["-serial", "chardev:console"]
    for name in monitors:
        options += ["-qmp", f"unix:{directory}/{name}.sock,server,nowait"]
    return options


def guest_options(
    kernel: Path,
    initrd: Path,
    directory: Path,
    t: str,
    *,
    append: str = "",
    monitors: Sequence[str] = ("qmp",),
    accel: str = "tcg",
) -> list[str]:
    """Options that boot ``kernel`` into the test guest's test ``t``."""
    return [
        *("-machine", f"microvm,accel={accel}"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 panic=-1 {append} t={t}"),
        *sockets(directory, monitors=monitors),
    ]


@asynccontextmanager
async def started(*arguments: str, directory: Path) -> AsyncIterator[Vm]:
    """A process with ``arguments``; killed at the end of the block if it still lives.

    Its stderr goes to ``stderr.txt`` in ``directory``; the block's end fails when a traceback is in it.
    """
    log = directory / "stderr.txt"
    async with AsyncExitStack() as stack:
        with log.open("wb") as stderr:
            process = await trio.lowlevel.open_process(
                command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
        stack.push_async_callback(_end, process)
        yield Vm(process, directory)


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()

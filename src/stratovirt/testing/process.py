"""A stratovirt process, started as its user would and driven over its sockets.

The law: a process never outlives the block that started it, and every wait has a deadline.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stratovirt.testing.console import GuestConsole

START_SECONDS = 120  # takes 0.3; on nested KVM of a busy host 40
"""Until a socket is listened on: Python's start and the kernel's unpacking, on a loaded CI host."""
END_SECONDS = 30
"""Until the process ends that was told to: it flushes for two seconds and waits for its threads."""
POLL_SECONDS = 0.01
"""Between two looks for a socket: nothing tells a stranger that it is listened on."""

COMMAND = (sys.executable, "-m", "stratovirt")


class VmProcess:
    """One running process, its sockets and its stderr in ``directory``."""

    def __init__(self, process: trio.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory

    @property
    def pid(self) -> int:
        return self.process.pid

    @asynccontextmanager
    async def serial(self, name: str = "console") -> AsyncIterator[GuestConsole]:
        """The serial line at the socket ``name``; what was printed before comes first."""
        async with await self.connect(name) as stream:
            yield GuestConsole(stream)

    async def connect(self, name: str) -> trio.SocketStream:
        """Connect to the socket ``name`` as soon as it is listened on.

        :raises AssertionError: the process has ended; says what it said.
        :raises trio.TooSlowError: nobody listens in time.
        """
        return await open_socket(self.directory / f"{name}.sock", check=self.check_running)

    def check_running(self) -> None:
        """Do nothing.

        :raises AssertionError: the process has ended; says what it said.
        """
        if self.process.poll() is not None:
            raise AssertionError(f"the process has ended with {self.process.returncode}: {self.stderr()}")

    async def exit_code(self, seconds: float = END_SECONDS) -> int:
        """Wait for the process's own end.

        :raises trio.TooSlowError: it does not end in time.
        """
        with trio.fail_after(seconds):
            return await self.process.wait()

    def threads(self) -> list[str]:
        """Names of the process's threads, sorted."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sorted((task / "comm").read_text().strip() for task in tasks)

    def memory(self) -> int:
        """Bytes of host memory that the process occupies, the guest's included (VmRSS of proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmRSS"].removesuffix("kB")) * 1024

    def stderr(self) -> str:
        """What it has said so far."""
        return stderr_path(self.directory).read_text(errors="replace")


@asynccontextmanager
async def started(
    *arguments: str, directory: Path, command: tuple[str, ...] = COMMAND
) -> AsyncIterator[VmProcess]:
    """A process with ``arguments``; killed at the end of the block if it still lives."""
    with stderr_path(directory).open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        yield VmProcess(process, directory)
    finally:
        await _end(process)


def _nothing() -> None:
    """Check nothing."""


async def open_socket(path: Path, *, check: Callable[[], None] = _nothing) -> trio.SocketStream:
    """Connect to a unix socket as soon as it is listened on.

    :param check: called while nobody listens; what it raises ends the wait.
    :raises trio.TooSlowError: it is not in time.
    """
    with trio.fail_after(START_SECONDS):
        while True:
            try:
                return await trio.open_unix_socket(path)
            except (FileNotFoundError, ConnectionRefusedError):
                check()
                await trio.sleep(POLL_SECONDS)


def stderr_path(directory: Path) -> Path:
    """The file that a process's stderr goes to."""
    return directory / "stderr.txt"


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()

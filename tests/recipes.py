"""The recipes of a page in docs/, pasted one after the other into a shell as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from stratovirt.testing.console import GuestConsole
from stratovirt.testing.options import PROMPT
from stratovirt.testing.process import END_SECONDS, open_socket
from stratovirt.testing.shell import Shell
from tests.guests import cache_directory

DOCS = Path(__file__).parents[1] / "docs"
SECONDS = 60
BASH = ("bash", "-ec")
MACHINE = re.compile(r"^(ip netns exec \w+ )?stratovirt ", re.MULTILINE)


def recipes(page: str, language: str = "sh") -> list[str]:
    """The page's blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


class Paste:
    """A directory in which the recipes of the page are pasted; ``stratovirt`` and the rest are on PATH.

    :param within: a command in front that leads to where they are pasted.
    """

    def __init__(self, directory: Path, within: Sequence[str] = ()) -> None:
        self._directory = directory
        self._within = within
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
        self._environment = {**os.environ, "PATH": path, "STRATOVIRT_GUEST_DIR": str(cache_directory())}

    def run(self, recipe: str, program: Sequence[str] = BASH) -> str:
        """What a recipe that ends prints."""
        return subprocess.run(
            [*self._within, *program, recipe],
            cwd=self._directory,
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        ).stdout

    @contextmanager
    def machine(self, recipe: str) -> Iterator[subprocess.Popen[bytes]]:
        """A recipe that ends with a machine, which is killed if it is still there in the end."""
        with subprocess.Popen(
            self._machine_command(recipe),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @asynccontextmanager
    async def guest(self, recipe: str) -> AsyncIterator[Shell]:
        """The same, once its guest has booted: the shell on its console. The block ends with ``quit``."""
        process = await trio.lowlevel.open_process(
            self._machine_command(recipe),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with process.stdin, process.stdout:
            console = GuestConsole(trio.StapledStream(process.stdin, process.stdout))
            try:
                await console.expect(PROMPT)
                yield Shell(console)
                self.run("stratovirt-qmp vm.qmp quit")
                with trio.fail_after(END_SECONDS):
                    await console.drain()
                    assert await process.wait() == 0
            finally:
                process.kill()
                await process.wait()

    def _machine_command(self, recipe: str) -> list[str]:
        """exec: the shell's process becomes the machine."""
        return [*self._within, *BASH, MACHINE.sub(r"exec \g<0>", recipe)]

    async def shown(self, recipe: str, *follow: str) -> str:
        """Paste a machine, and what follows while it runs; what ``query-block`` says at the end."""
        with self.machine(recipe) as process:
            await (await open_socket(self._directory / "vm.qmp", check=lambda: _check(process))).aclose()
            for each in follow:
                await trio.to_thread.run_sync(self.run, each)
            disks = await trio.to_thread.run_sync(self.run, "stratovirt-qmp vm.qmp query-block")
            await trio.to_thread.run_sync(self.run, "stratovirt-qmp vm.qmp quit")
            assert await trio.to_thread.run_sync(process.wait, END_SECONDS) == 0
        return disks


def _check(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "the machine has ended"

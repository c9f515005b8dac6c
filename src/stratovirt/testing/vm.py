"""A guest for one test: a process, its console with a shell on it, and its QMP socket."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stratovirt.testing.console import PATIENCE, GuestConsole
from stratovirt.testing.options import VmOptions
from stratovirt.testing.process import VmProcess, started
from stratovirt.testing.recorded import RecordedQmp, recorded
from stratovirt.testing.shell import Result, Shell

LAST_WORDS_SECONDS = 5
"""For what a guest has printed and nobody read: at most the pipes' and sockets' buffers."""


class Vm(VmProcess):
    """A running guest.

    :ivar console: its serial line.
    :ivar options: what was asked for.
    """

    def __init__(self, process: VmProcess, console: GuestConsole, options: VmOptions) -> None:
        super().__init__(process.process, process.directory)
        self.console = console
        self.options = options
        self._shell = Shell(console)
        self._clients: list[RecordedQmp] = []
        self._stderr = ""

    async def booted(self) -> None:
        """Wait for the prompt of the guest's shell; again after a reset.

        :raises AssertionError: it does not come in time; shows the last output.
        """
        if self.options.prompt is not None:
            await self.console.expect(self.options.prompt, seconds=self.options.boot_seconds)

    async def run(self, command: str, *, seconds: float = PATIENCE) -> Result:
        """Run a command in the guest: :meth:`Shell.run`."""
        return await self._shell.run(command, seconds=seconds)

    async def push(self, path: str, data: bytes) -> None:
        """Write a file in the guest: :meth:`Shell.push`."""
        await self._shell.push(path, data)

    async def pull(self, path: str) -> bytes:
        """Read a file in the guest: :meth:`Shell.pull`."""
        return await self._shell.pull(path)

    @asynccontextmanager
    async def qmp(self) -> AsyncIterator[RecordedQmp]:
        """One more client on the QMP socket."""
        async with recorded(await self.connect("qmp")) as client:
            self._clients.append(client)
            yield client

    def sections(self) -> list[tuple[str, str]]:
        """What a failing test's report says of this guest when it is gone: (title, text)."""
        return [
            ("guest console", self.console.log()),
            *(("QMP transcript", client.transcript()) for client in self._clients),
            ("stratovirt stderr", self._stderr),
        ]

    async def last_words(self) -> None:
        """End it, and keep what it has said that nobody has read."""
        with trio.move_on_after(LAST_WORDS_SECONDS, shield=True):
            self.process.terminate()
            await self.console.drain()
        self._stderr = self.stderr()


@asynccontextmanager
async def launched(options: VmOptions) -> AsyncIterator[Vm]:
    """A guest that has just been started; its process is gone at the end of the block, its console read."""
    # Not pytest's tmp_path: a unix socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="stratovirt-") as name:
        directory = Path(name)
        arguments = options.arguments(directory)
        async with (
            started(*arguments, directory=directory, command=options.command) as process,
            process.serial() as console,
        ):
            vm = Vm(process, console, options)
            try:
                yield vm
            finally:
                await vm.last_words()

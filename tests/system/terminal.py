"""A stratovirt process on a terminal of its own, and the person at its keyboard."""

from __future__ import annotations

import os
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stratovirt.testing import GuestConsole
from tests.system.vm import END_SECONDS, command


class Person:
    """At the terminal's keyboard, with the screen in ``screen``."""

    def __init__(self, keyboard: trio.abc.Stream, process: trio.Process) -> None:
        self.screen = GuestConsole(keyboard)
        self._keyboard = keyboard
        self._process = process

    async def press(self, keys: bytes) -> None:
        """Press keys; Enter is CR."""
        await self._keyboard.send_all(keys)

    async def exit_code(self) -> int:
        """Wait for the process's own end."""
        with trio.fail_after(END_SECONDS):
            return await self._process.wait()


@asynccontextmanager
async def at_terminal(*arguments: str, directory: Path) -> AsyncIterator[Person]:
    """A process whose stdin and stdout are a terminal; at its end the terminal is as it was before."""
    master, slave = os.openpty()
    async with trio.lowlevel.FdStream(master) as keyboard:
        try:
            before = termios.tcgetattr(slave)
            with (directory / "stderr.txt").open("wb") as stderr:
                process = await trio.lowlevel.open_process(
                    command(*arguments), stdin=slave, stdout=slave, stderr=stderr, start_new_session=True
                )
            try:
                yield Person(keyboard, process)
            finally:
                if process.returncode is None:
                    process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            assert termios.tcgetattr(slave) == before
        finally:
            os.close(slave)

"""A program on a terminal: what it draws can be waited for, keys can be typed."""

from __future__ import annotations

import bisect
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.clients.servers import PATIENCE

_ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])")
_TYPING = b"\x1b[?2004h"  # bracketed paste on: readline and prompt_toolkit begin a line with it
SHELL = [sys.executable, "-m", "stratovirt.tools.qmp.script"]


class Terminal:
    """The keyboard and screen of one process."""

    def __init__(self, stream: trio.lowlevel.FdStream, process: trio.Process) -> None:
        self.process = process
        self._stream = stream
        self._drawn = b""

    async def type(self, keys: str) -> None:
        await self._stream.send_all(keys.encode())

    async def prompt(self) -> None:
        """The next prompt: from here on keys reach the shell, and none of them means anything to the tty."""
        await self._skip(_TYPING, lambda drawn: drawn)

    async def until(self, text: str) -> None:
        """Text that is drawn, escape sequences aside; what came before is not looked at again."""
        await self._skip(text.encode(), lambda drawn: _ESCAPES.sub(b"", drawn))

    async def _skip(self, mark: bytes, seen: Callable[[bytes], bytes]) -> None:
        with trio.fail_after(PATIENCE):
            while mark not in seen(self._drawn):
                self._drawn += bytes(await self._stream.receive_some())
        # Up to the shortest beginning that shows the mark: what follows may be needed with its escapes.
        end = bisect.bisect_left(
            range(len(self._drawn)), True, key=lambda end: mark in seen(self._drawn[: end + 1])
        )
        self._drawn = self._drawn[end + 1 :]


@asynccontextmanager
async def on_terminal(
    *arguments: str, home: Path, python_path: Path | None = None
) -> AsyncIterator[Terminal]:
    """``stratovirt-qmp`` on a terminal of its own; killed at the end of the block if it still lives."""
    keyboard, screen = pty.openpty()
    environment = os.environ | {"HOME": str(home), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    environment.pop("XDG_STATE_HOME", None)
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    async with trio.lowlevel.FdStream(keyboard) as stream:
        process = await trio.lowlevel.open_process(
            [*SHELL, *arguments], stdin=screen, stdout=screen, stderr=screen, env=environment
        )
        os.close(screen)
        try:
            yield Terminal(stream, process)
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()

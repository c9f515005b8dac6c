"""Standard input and output as a character device.

The law: whatever happens here, the terminal and the shell's file descriptions are left as they were.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.chardev.terminal import RawTerminal
from stratovirt.errors import ConfigError

STDIN, STDOUT = 0, 1


class Stdio:
    """This process's standard input and output; a terminal is raw while it is served.

    The end of the input is not the end of the connection (as in QEMU): output goes on.
    """

    filename = "stdio"

    def __init__(self, id: str) -> None:
        self.id = id
        self._terminal = RawTerminal(STDIN)

    @property
    def is_terminal(self) -> bool:
        """Does a person type here? Only then should escape keys be obeyed: a pipe may carry any byte."""
        return os.isatty(STDIN)

    def open(self) -> None:
        """Check that there are a standard input and output.

        :raises ConfigError: one of them is closed.
        """
        for stream, name in ((sys.__stdin__, "input"), (sys.__stdout__, "output")):
            if stream is None:  # by now its fd may be another file's
                raise ConfigError(f"stdio: standard {name} is closed")

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` once. On a terminal only in the main thread, for SIGCONT's sake."""
        from stratovirt.chardev.streams import EndlessInput

        keyboard = EndlessInput(trio.lowlevel.FdStream(_reopen(STDIN, os.O_RDONLY)))
        screen = trio.lowlevel.FdStream(_reopen(STDOUT, os.O_WRONLY))
        async with trio.StapledStream(screen, keyboard) as stream:
            if self.is_terminal:
                await self._serve_raw(handler, stream)
            else:
                await handler(stream)

    async def _serve_raw(self, handler: Handler, stream: trio.abc.Stream) -> None:
        with trio.open_signal_receiver(signal.SIGCONT) as continued:
            try:
                self._terminal.enter()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._stay_raw, continued)
                    await handler(stream)
                    nursery.cancel_scope.cancel()
            finally:
                self._terminal.restore()

    async def _stay_raw(self, continued: AsyncIterator[int]) -> None:
        """The shell has used the terminal while this process was stopped."""
        async for _ in continued:
            self._terminal.enter()

    def close(self) -> None:
        """Restore the terminal."""
        self._terminal.restore()


def _reopen(fd: int, access: int) -> int:
    """An fd of our own for what ``fd`` refers to, to be made non-blocking.

    O_NONBLOCK belongs to the open file description, which stdio shares with our stderr and with the
    shell: they would see it too, for ever if we are killed. Terminals and pipes can be opened anew; a
    socket cannot: there FdStream sets the flag on the shared description and takes it back when closed.
    """
    if os.isatty(fd) or stat.S_ISFIFO(os.fstat(fd).st_mode):
        with suppress(OSError):  # a terminal of another user, a pipe that nobody reads any more
            return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY)
    return os.dup(fd)

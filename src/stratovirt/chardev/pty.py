"""A pseudo-terminal: whoever opens its slave (screen, minicom, libvirt) is connected."""

from __future__ import annotations

import os
import select
import sys
import tty

import trio

from stratovirt.chardev.protocol import Handler
from stratovirt.errors import ConfigError

POLL_SECONDS = 0.2
"""Pause between looks whether the slave is open; the kernel has no event for it. QEMU: 1 s."""


class Pty:
    """A pty in raw mode; each opening of its slave is a connection."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.path = ""
        """The slave's path, once open."""
        self._master: int | None = None

    @property
    def filename(self) -> str:
        return f"pty:{self.path}"

    def open(self) -> None:
        """Make the pty and say on stderr where its slave is, in QEMU's words.

        :raises ConfigError: the host has no pty to give.
        """
        if self._master is not None:
            return
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise ConfigError(f"no pty to be had: {error.strerror}") from error
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)  # held open, it would hide whether anybody else has it open
        os.set_blocking(self._master, False)
        print(f"char device redirected to {self.path} (label {self.id})", file=sys.stderr)

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        """Run ``handler`` for each opening of the slave, one at a time."""
        if self._master is None:
            raise RuntimeError(f"chardev {self.id} is not open")
        while True:
            await _slave_opened(self._master)
            async with trio.lowlevel.FdStream(os.dup(self._master)) as stream:
                await handler(stream)

    def close(self) -> None:
        """Give the pty back; its slave hangs up."""
        if self._master is not None:
            os.close(self._master)
            self._master = None


async def _slave_opened(master: int) -> None:
    """Wait until somebody has the slave open."""
    poll = select.poll()
    poll.register(master, 0)  # POLLHUP, which the master has while no slave is open, needs no asking
    while poll.poll(0):  # noqa: ASYNC110 - no one could set an Event
        await trio.sleep(POLL_SECONDS)

"""A person's terminal: its raw mode."""

from __future__ import annotations

import os
import termios
import tty
from contextlib import suppress
from typing import Any


class RawTerminal:
    """Puts the terminal ``fd`` into raw mode and back.

    It is left alone while another process group has it: its shell has set the modes it wants, and
    SIGTTOU would stop a background process that changes them.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        """From now on every key, Ctrl-c too, is the guest's. To be repeated after SIGCONT."""
        if _in_background(self._fd):
            return
        if self._saved is None:
            self._saved = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSANOW)
        attributes = termios.tcgetattr(self._fd)
        attributes[tty.OFLAG] |= termios.OPOST  # as QEMU: our own log lines keep their line ends
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def restore(self) -> None:
        """Back to how :meth:`enter` found it. Idempotent; a terminal that is gone needs nothing."""
        saved, self._saved = self._saved, None
        if saved is not None and not _in_background(self._fd):
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, saved)


def _in_background(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:
        return False  # not our controlling terminal: it knows no background

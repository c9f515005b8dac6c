"""A person's terminal: its raw mode, and a stream that obeys the escape keys."""

from __future__ import annotations

import os
import termios
import tty
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import trio

from stratovirt.chardev.escape import EscapeParser, Key, help_text


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


class EscapeStream(trio.abc.Stream):
    """The stream of a terminal, less its escape keys: those call ``actions``.

    Keys without an action do nothing; Ctrl-a h needs none, it prints the keys that have one.
    """

    def __init__(self, terminal: trio.abc.Stream, actions: Mapping[Key, Callable[[], None]]) -> None:
        self._terminal = terminal
        self._actions = actions
        self._parser = EscapeParser()
        self._typed: deque[bytes | Key] = deque()
        self._sending = trio.Lock()  # help and guest output take turns

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What was typed for the guest; keys typed before it have taken effect."""
        while True:
            while self._typed:
                item = self._typed.popleft()
                if isinstance(item, bytes):
                    return item
                await self._obey(item)
            data = await self._terminal.receive_some(max_bytes)
            if not data:
                return data
            self._typed.extend(self._parser.feed(data))

    async def _obey(self, key: Key) -> None:
        if key is Key.HELP:
            await self.send_all(help_text({Key.HELP, *self._actions}))
        elif key in self._actions:
            self._actions[key]()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            await self._terminal.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._terminal.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._terminal.aclose()

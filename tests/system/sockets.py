"""Connecting to a process that has only just been started."""

from __future__ import annotations

from pathlib import Path

import trio

START_SECONDS = 30


async def open_socket(path: Path) -> trio.SocketStream:
    """Connect to a unix socket as soon as it is listened on."""
    with trio.fail_after(START_SECONDS):
        while True:
            try:
                return await trio.open_unix_socket(path)
            except (FileNotFoundError, ConnectionRefusedError):
                await trio.sleep(0.01)

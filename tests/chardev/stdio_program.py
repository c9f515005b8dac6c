"""Serves its standard input and output until SIGTERM or the end of the handler: ``stdio_program.py MODE``.

``echo`` gives every byte back in upper case, ``crash`` raises at the first byte, ``fill`` writes two
megabytes.
"""

import fcntl
import os
import signal
import sys
import termios
from collections.abc import AsyncIterator

import trio

from stratovirt.chardev.stdio import Stdio


async def echo(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"ready\n")
    while data := await stream.receive_some():
        await stream.send_all(data.upper())


async def crash(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"ready\n")
    await stream.receive_some()
    raise ValueError("this handler is broken")


async def fill(stream: trio.abc.Stream) -> None:
    for _ in range(2048):
        await stream.send_all(b"x" * 1024)


async def main(mode: str) -> None:
    device = Stdio("console")
    device.open()
    try:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                nursery.start_soon(_cancel_at, signals, nursery.cancel_scope)
                await device.serve({"echo": echo, "crash": crash, "fill": fill}[mode])
            nursery.cancel_scope.cancel()
    finally:
        device.close()


async def _cancel_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


if __name__ == "__main__":
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    trio.run(main, sys.argv[1])

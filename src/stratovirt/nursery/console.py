"""The console: the serial line's host end, carried by a character device."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from stratovirt.chardev.escape import Key
from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.stdio import Stdio
from stratovirt.chardev.terminal import EscapeStream
from stratovirt.machine.control import MachineControl


@dataclass(frozen=True)
class Console:
    """The machine's first serial line.

    :param chardev: where its bytes come from and go to; None keeps the last of them for nobody.
    """

    port: BytePort
    chardev: Chardev | None
    control: MachineControl

    async def serve(self) -> None:
        """Carry bytes between the line and one connection at a time, until cancelled."""
        if self.chardev is not None:
            await self.chardev.serve(self._carry, clients=1)

    async def _carry(self, stream: trio.abc.Stream) -> None:
        if isinstance(self.chardev, Stdio) and self.chardev.is_terminal:
            stream = EscapeStream(stream, {Key.QUIT: self.control.quit})
        await self.port.attach(stream)

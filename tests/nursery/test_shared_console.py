"""Console and human monitor share a terminal, and the monitor's part outlives the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from stratovirt.chardev.protocol import Handler
from stratovirt.devices.rtc import Rtc
from stratovirt.errors import AcceleratorError
from stratovirt.testing import GuestConsole
from tests.nursery.test_run import SETS_THE_CLOCK, running


class Terminal:
    """A character device with a person at the other end of its stream."""

    id = filename = "terminal"

    def __init__(self) -> None:
        self.person, self._ours = trio.testing.memory_stream_pair()

    def open(self) -> None:
        """Nothing to claim."""

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        async with self._ours as stream:
            await handler(stream)

    def close(self) -> None:
        """Nothing to give back."""


async def test_a_person_can_ask_why_the_machine_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(_rtc: Rtc, _offset: int, _size: int, _value: int) -> None:
        raise AcceleratorError("injected into the vCPU thread")

    monkeypatch.setattr(Rtc, "pio_write", explode)
    terminal = Terminal()
    screen = GuestConsole(terminal.person)
    async with running(tmp_path, SETS_THE_CLOCK, terminal, shared=True) as vm:
        await screen.send(b"\x01c")
        await screen.expect(b"(stratovirt) ")
        while True:
            await screen.send(b"info status\r")
            await screen.expect(b"VM status: ")
            if b"internal-error" in await screen.expect(b"\r\n"):
                break
        await screen.send(b"cont\r")
        await screen.expect(b"injected into the vCPU thread")
        await screen.send(b"quit\r")
    assert vm.exit_code == 2

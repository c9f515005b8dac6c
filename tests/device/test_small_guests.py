"""Each device works on each accelerator, with its interrupt, for a guest that has no operating system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests.bare import running

REQUESTS = 12
"""That end in an interrupt each; kvm_pvm may repeat one."""


@pytest.mark.parametrize("accel", ["tcg", "kvm"])
async def test_a_driver_without_an_operating_system_uses_every_device(tmp_path: Path, accel: str) -> None:
    async with running("drivers", accel, tmp_path) as vm:
        async with vm.console() as console, vm.console("hvc") as hvc:
            await hvc.type("hello")
            await hvc.expect(b"hello from the console\n")
            lines = (await console.expect(b" interrupts\n")).decode().splitlines()
        assert await vm.exit_code() == 0
    written = bytes(i * 7 & 0xFF for i in range(4096))
    assert (tmp_path / "disk.img").read_bytes()[4096:8192] == written
    *lines, last = lines
    assert lines == [
        "disk of 8192 sectors: read back, refuses what is behind its end",
        *["disk of 0 sectors"] * 3,
        *["network: sent a frame"] * 2,
        "entropy: random bytes",
        "balloon: inflated, 0 pages before",
        "console: said hello, heard 6 bytes",
        "sockets: address 3, refused",
    ]
    assert int(last.split()[-2]) >= REQUESTS

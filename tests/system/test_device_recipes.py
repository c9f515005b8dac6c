"""The recipes of docs/console.md, balloon.md and sharing.md work when they are pasted, in their order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from stratovirt.testing import GuestConsole, open_socket
from tests.recipes import Paste, recipes

IN_THE_BACKGROUND = "({}) </dev/null >/dev/null 2>&1 &"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"


@pytest.fixture
def paste(tmp_path: Path, cloud_kernel: Path) -> Paste:
    """``cloud_kernel`` is what stratovirt-guest finds in the cache."""
    return Paste(tmp_path)


async def test_consoles(paste: Paste, tmp_path: Path) -> None:
    machine, getty, socat, plug, guest, read = recipes("console.md")
    async with paste.guest(machine) as shell:
        (await shell.run(IN_THE_BACKGROUND.format(getty.removesuffix(" &\n")))).check()
        assert "unix:hvc0.sock" in socat
        async with await open_socket(tmp_path / "hvc0.sock") as stream:
            person = GuestConsole(stream)
            await person.expect(b"# ")
            await person.type("echo $((6 * 7)); tty")
            await person.expect(b"\n42\r\n/dev/hvc0")
        await trio.to_thread.run_sync(paste.run, plug)
        (await shell.run(f"until [ -e /dev/hvc1 ]; do usleep 20000; done; {guest}")).check()
        assert "Linux version" in await trio.to_thread.run_sync(paste.run, read)


async def test_the_balloon(paste: Paste) -> None:
    machine, balloon = recipes("balloon.md")
    async with paste.guest(machine):
        assert "actual " in await trio.to_thread.run_sync(paste.run, balloon)


@pytest.mark.skipif(not os.path.exists(VIRTIOFSD) or os.geteuid() != 0, reason=f"no {VIRTIOFSD}, or not root")
async def test_a_shared_directory(paste: Paste) -> None:
    machine, mount = recipes("sharing.md")
    async with paste.guest(machine) as shell:
        assert (await shell.run(mount)).check() == "from the host\n"

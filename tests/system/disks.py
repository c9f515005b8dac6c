"""Disk images on the host, and a guest's shell that has disks."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stratovirt.testing.shell import Shell
from tests.system.vm import Vm

MIB = 1 << 20
PROMPT = b"built-in commands"  # of busybox's shell, before its first prompt


def image(path: Path, size: int, content: bytes = b"") -> Path:
    """A sparse image of ``size`` bytes that begins with ``content``."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def drive(path: Path, id: str, more: str = "", device: str = "") -> list[str]:
    """Options for a disk that is there from the start."""
    return [
        *("-drive", f"id={id},file={path}{more}"),
        *("-device", f"virtio-blk-device,id={id},drive={id}{device}"),
    ]


def sha256(path: Path, length: int | None = None) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(length)).hexdigest()


def fsck(disk: Path) -> int:
    """Exit status of e2fsck: 0 is a clean file system."""
    return subprocess.run(["e2fsck", "-fn", disk], capture_output=True, check=False).returncode


@asynccontextmanager
async def shell(vm: Vm) -> AsyncIterator[Shell]:
    """The shell of the test guest, with the drivers of disks loaded; ext4 is in the kernel."""
    async with vm.console() as console:
        await console.expect(PROMPT, seconds=120)
        guest = Shell(console)
        (await guest.run("modprobe virtio_mmio && modprobe virtio_blk")).check()
        yield guest

"""A real Linux on raw disks: what it writes is on the host, what it may not write is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.disks import MIB, drive, image, sha256, shell
from tests.system.vm import started

Options = Callable[..., list[str]]


@pytest.mark.parametrize("cache", ["", ",direct=on"])
async def test_a_file_system_on_a_disk_is_whole_after_quit(
    guest: Options, tmp_path: Path, cache: str
) -> None:
    disk = image(tmp_path / "disk.img", 256 * MIB)
    options = guest("shell", *drive(disk, "d0", cache, ",serial=ABC-123"))
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp, shell(vm) as linux:
        assert (await linux.run("cat /sys/block/vda/size")).check().strip() == str(256 * MIB // 512)
        assert (await linux.run("cat /sys/block/vda/serial")).check().strip() == "ABC-123"
        assert (await linux.run("ls /sys/block | grep -c vd")).check().strip() == "4", "the empty slots too"
        (await linux.run("mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt", seconds=120)).check()
        (await linux.run("dd if=/dev/urandom of=/mnt/data bs=1M count=32 2>/dev/null", seconds=120)).check()
        (await linux.run("sync && echo 3 >/proc/sys/vm/drop_caches")).check()
        theirs = (await linux.run("sha256sum </mnt/data", seconds=60)).check().split()[0]
        (await linux.run("umount /mnt && mount -t ext4 /dev/vda /mnt && sync")).check()
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    assert fsck(disk) == 0
    assert file_in(disk, "data", tmp_path) == theirs


async def test_a_read_only_disk_refuses_writes(guest: Options, tmp_path: Path) -> None:
    disk = image(tmp_path / "disk.img", 8 * MIB, b"precious" * 1000)
    before = sha256(disk)
    options = guest("shell", *drive(disk, "d0", ",readonly=on"))
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux:
        assert (await linux.run("cat /sys/block/vda/ro")).check().strip() == "1"
        assert (await linux.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")).status != 0
        assert (await linux.run("head -c 8 /dev/vda")).check() == "precious"
    assert sha256(disk) == before


def fsck(disk: Path) -> int:
    """Exit status of e2fsck: 0 is a clean file system."""
    return subprocess.run(["e2fsck", "-fn", disk], capture_output=True, check=False).returncode


def file_in(disk: Path, name: str, scratch: Path) -> str:
    """SHA-256 of the file ``name`` in the file system on ``disk``."""
    out = scratch / "out"
    subprocess.run(["debugfs", "-R", f"dump {name} {out}", disk], capture_output=True, check=True)
    return sha256(out)

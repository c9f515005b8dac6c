"""A real Linux on qcow2 images: QEMU's tools agree with what it wrote, and no daemon outlives its disk."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from stratovirt.backends.disk.storage_daemon import PACKAGE, PROGRAM
from tests.system.disks import MIB, drive, fsck, image, sha256, shell
from tests.system.vm import END_SECONDS, Vm, started

Options = Callable[..., list[str]]

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("qemu-img") is None,
    reason=f"no {PROGRAM} ({PACKAGE}) or no qemu-img (qemu-utils)",
)


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def qcow2(path: Path, size: int = 8 * MIB) -> Path:
    qemu_img("create", "-f", "qcow2", path, size)
    return path


def daemons(vm: Vm) -> list[int]:
    """Process ids of the storage daemons that the machine has now."""
    children = [
        int(pid)
        for task in Path(f"/proc/{vm.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    return [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAM[:15]]


async def test_a_file_system_on_an_overlay_is_whole_and_its_backing_image_untouched(
    guest: Options, tmp_path: Path
) -> None:
    base = image(tmp_path / "base.img", 64 * MIB)
    subprocess.run(["mke2fs", "-Fq", "-t", "ext4", base], check=True, capture_output=True)
    before = sha256(base)
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", base, overlay)
    options = guest("shell", *drive(overlay, "d0", ",format=qcow2"))
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp, shell(vm) as linux:
        (await linux.run("mount -t ext4 /dev/vda /mnt")).check()
        (await linux.run("dd if=/dev/urandom of=/mnt/data bs=1M count=16 2>/dev/null", seconds=120)).check()
        (await linux.run("sync && echo 3 >/proc/sys/vm/drop_caches")).check()
        theirs = (await linux.run("sha256sum </mnt/data", seconds=60)).check().split()[0]
        (await linux.run("umount /mnt && sync")).check()
        [node] = await qmp.execute("query-named-block-nodes")
        assert (node["drv"], node["file"]) == ("qcow2", str(overlay))
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
        assert "killed" not in vm.stderr(), "the daemon has ended by itself"
    qemu_img("check", overlay)  # which also says that nobody has it open any more
    flat = tmp_path / "flat.img"
    qemu_img("convert", "-O", "raw", overlay, flat)
    assert fsck(flat) == 0
    subprocess.run(["debugfs", "-R", f"dump data {tmp_path / 'out'}", flat], capture_output=True, check=True)
    assert sha256(tmp_path / "out") == theirs
    assert sha256(base) == before


async def test_a_plugged_image_goes_with_its_daemon_and_a_dead_daemon_is_an_io_error(
    guest: Options, tmp_path: Path
) -> None:
    path = qcow2(tmp_path / "disk.qcow2")
    async with (
        started(*guest("shell"), directory=tmp_path) as vm,
        shell(vm) as linux,
        vm.qmp() as qmp,
    ):

        async def plug() -> None:
            file = {"driver": "file", "filename": str(path)}
            await qmp.execute("blockdev-add", **{"node-name": "d0", "file": file, "driver": "qcow2"})
            await qmp.execute("device_add", id="d0", driver="virtio-blk-mmio")

        async def unplug() -> None:
            await qmp.execute("device_del", id="d0")
            await qmp.wait_event("DEVICE_DELETED")
            await qmp.execute("blockdev-del", **{"node-name": "d0"})

        await plug()
        (await linux.run("printf written | dd of=/dev/vda conv=fsync 2>/dev/null")).check()
        assert len(daemons(vm)) == 1
        await unplug()
        assert daemons(vm) == []

        await plug()
        read = "dd if=/dev/vda iflag=direct bs=512 count=1 2>/dev/null"
        assert (await linux.run(read)).check().startswith("written")
        os.kill(daemons(vm)[0], signal.SIGKILL)
        assert (await linux.run(read)).status != 0
        [disk] = await qmp.execute("query-blockstats")
        assert disk["stats"]["failed_rd_operations"] > 0
        await unplug()

        await plug()
        assert (await linux.run(read)).check().startswith("written")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
        assert vm.stderr().count(f"{PROGRAM} of d0 has ended") == 1, "of the one that was killed"
    qemu_img("check", path)


async def test_a_daemon_that_hangs_delays_neither_qmp_nor_the_other_disks_and_not_the_end_for_ever(
    guest: Options, tmp_path: Path
) -> None:
    path, other = qcow2(tmp_path / "disk.qcow2"), image(tmp_path / "other.img", MIB, b"other")
    options = guest("shell", *drive(path, "d0", ",format=qcow2"), *drive(other, "d1"))
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux, vm.qmp() as qmp:
        [daemon] = daemons(vm)
        os.kill(daemon, signal.SIGSTOP)
        (await linux.run("{ dd if=/dev/vda iflag=direct; touch /tmp/done; } >/dev/null 2>&1 &")).check()
        assert (await linux.run("dd if=/dev/vdb iflag=direct 2>/dev/null")).check().startswith("other")
        assert (await linux.run("ls /tmp/done")).status != 0
        assert (await qmp.execute("query-status"))["status"] == "running"
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
        assert not Path(f"/proc/{daemon}").exists()


async def test_the_daemons_of_a_killed_machine_end_too(guest: Options, tmp_path: Path) -> None:
    """One was started with the machine, while it held signals back, the other by QMP."""
    first, second = qcow2(tmp_path / "first.qcow2"), qcow2(tmp_path / "second.qcow2")
    options = guest("up", "-S", *drive(first, "d0", ",format=qcow2"))
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp:
        file = {"driver": "file", "filename": str(second)}
        await qmp.execute("blockdev-add", **{"node-name": "d1", "file": file, "driver": "qcow2"})
        handles = [os.pidfd_open(pid) for pid in daemons(vm)]
        assert len(handles) == 2
        os.kill(vm.pid, signal.SIGKILL)
        for handle in handles:
            ended, _, _ = await trio.to_thread.run_sync(select.select, [handle], [], [], END_SECONDS)
            os.close(handle)
            assert ended

"""A real Linux on raw disks: what it writes is on the host, what it may not write is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.disks import MIB, drive, fsck, image, sha256, shell
from tests.system.qmp import Qmp
from tests.system.vm import started

Options = Callable[..., list[str]]


@pytest.mark.parametrize("cache", ["", ",direct=on"])
async def test_a_file_system_on_a_disk_is_whole_after_quit(
    guest: Options, tmp_path: Path, cache: str
) -> None:
    await file_system_is_whole(guest, tmp_path, cache, 32)


async def file_system_is_whole(guest: Options, directory: Path, cache: str, mib: int) -> None:
    """Linux makes a file system on 256 MiB, fills so much of it and syncs; then the machine quits."""
    disk = image(directory / "disk.img", 256 * MIB)
    options = guest("shell", *drive(disk, "d0", cache, ",serial=ABC-123"))
    async with started(*options, directory=directory) as vm, vm.qmp() as qmp, shell(vm) as linux:
        assert (await linux.run("cat /sys/block/vda/size")).check().strip() == str(256 * MIB // 512)
        assert (await linux.run("cat /sys/block/vda/serial")).check().strip() == "ABC-123"
        assert (await linux.run("ls /sys/block | grep -c vd")).check().strip() == "4", "the empty slots too"
        (await linux.run("mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt", seconds=120)).check()
        fill = f"dd if=/dev/urandom of=/mnt/data bs=1M count={mib} 2>/dev/null"
        (await linux.run(fill, seconds=300)).check()
        (await linux.run("sync && echo 3 >/proc/sys/vm/drop_caches")).check()
        theirs = (await linux.run("sha256sum </mnt/data", seconds=300)).check().split()[0]
        (await linux.run("umount /mnt && mount -t ext4 /dev/vda /mnt && sync")).check()
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    assert fsck(disk) == 0
    assert file_in(disk, "data", directory) == theirs


async def test_a_read_only_disk_refuses_writes(guest: Options, tmp_path: Path) -> None:
    disk = image(tmp_path / "disk.img", 8 * MIB, b"precious" * 1000)
    before = sha256(disk)
    options = guest("shell", *drive(disk, "d0", ",readonly=on"))
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux:
        assert (await linux.run("cat /sys/block/vda/ro")).check().strip() == "1"
        assert (await linux.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")).status != 0
        assert (await linux.run("head -c 8 /dev/vda")).check() == "precious"
    assert sha256(disk) == before


def file_in(disk: Path, name: str, scratch: Path) -> str:
    """SHA-256 of the file ``name`` in the file system on ``disk``."""
    out = scratch / "out"
    subprocess.run(["debugfs", "-R", f"dump {name} {out}", disk], capture_output=True, check=True)
    return sha256(out)


async def test_a_slow_disk_delays_nobody_and_the_queries_tell_the_truth(
    guest: Options, tmp_path: Path
) -> None:
    """The slow one gets a request per second; all else is done before it is done."""
    slow, one, two = (image(tmp_path / f"{name}.img", 4 * MIB) for name in ("slow", "one", "two"))
    options = guest(
        "shell",
        *("-object", "iothread,id=io0"),
        *drive(slow, "slow", ",throttling.iops-total=1"),
        *drive(one, "one", "", ",iothread=io0"),
        *drive(two, "two", ",readonly=on", ",iothread=io0"),
    )
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux, vm.qmp() as qmp:
        stuck = "dd if=/dev/vda of=/dev/null bs=4k iflag=direct"
        (await linux.run(f"{{ {stuck}; touch /tmp/done; }} >/dev/null 2>&1 &")).check()
        before = await stats_of(qmp)
        (await linux.run("dd if=/dev/zero of=/dev/vdb bs=4k count=100 oflag=direct conv=fsync")).check()
        (await linux.run("dd if=/dev/vdc of=/dev/null bs=4k count=50 iflag=direct")).check()
        after = await stats_of(qmp)
        assert after["one"]["wr_operations"] - before["one"]["wr_operations"] == 100
        assert after["one"]["wr_bytes"] - before["one"]["wr_bytes"] == 100 * 4096
        assert after["one"]["flush_operations"] > before["one"]["flush_operations"]
        assert after["two"]["rd_bytes"] - before["two"]["rd_bytes"] == 50 * 4096
        assert (await linux.run("ls /tmp/done")).status != 0, "the slow one is still at it"

        [thread] = await qmp.execute("query-iothreads")
        assert thread["id"] == "io0"
        assert Path(f"/proc/{vm.pid}/task/{thread['thread-id']}/comm").read_text() == "io0\n"
        disks = {disk["device"]: disk["inserted"] for disk in await qmp.execute("query-block")}
        assert {id: (disk["ro"], disk["iops"]) for id, disk in disks.items()} == {
            "slow": (False, 1),
            "one": (False, 0),
            "two": (True, 0),
        }
        assert disks["one"]["file"] == str(one)
        nodes = await qmp.execute("query-named-block-nodes")
        assert [node["node-name"] for node in nodes] == ["slow", "one", "two"]
        info = await qmp.execute("human-monitor-command", **{"command-line": "info block"})
        assert f"two (two): {two} (raw, read-only)" in info

        await qmp.execute("device_del", id="slow")
        assert [disk["device"] for disk in await qmp.execute("query-block")] == ["one", "two"]
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def stats_of(qmp: Qmp) -> dict[str, dict[str, int]]:
    return {disk["device"]: disk["stats"] for disk in await qmp.execute("query-blockstats")}

"""All that Linux asks of a disk: requests of two CPUs, discards, zeroes, and errors that stay errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.block import HALF, stamped

from tests.system.disks import MIB, drive, image, shell
from tests.system.vm import started

Options = Callable[..., list[str]]
MILLISECONDS = 300  # of each load
"""Of block.c."""
SIZE = 2 * HALF


@pytest.mark.parametrize("cache", ["", ",direct=on"])
async def test_two_queues_read_and_write_what_they_should(guest: Options, tmp_path: Path, cache: str) -> None:
    """The guest's program checks what it reads; here is checked what it wrote."""
    disk = image(tmp_path / "disk.img", SIZE, stamped(0))
    options = guest("shell", "-smp", "2", *drive(disk, "d0", cache, ",num-queues=2"))
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux, vm.qmp() as qmp:
        assert (await linux.run("ls /sys/block/vda/mq")).check().split() == ["0", "1"]
        load = f"taskset 1 block /dev/vda {MILLISECONDS} & taskset 2 block /dev/vda {MILLISECONDS} & wait"
        said = (await linux.run(load, seconds=120)).check()
        written = [int(count) for count in re.findall(r"written=(\d+)", said)]
        assert len(written) == 2, said
        assert said.count("deep=") == 2, said
        [stats] = await qmp.execute("query-blockstats")
        assert stats["stats"]["wr_bytes"] >= sum(written)
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    with disk.open("rb") as file:
        file.seek(HALF)
        assert file.read(max(written)) == stamped(HALF)[: max(written)]


async def test_discards_zeroes_and_errors(guest: Options, tmp_path: Path) -> None:
    disk = image(tmp_path / "disk.img", 8 * MIB, b"x" * 8 * MIB)
    short = image(tmp_path / "short.img", 8 * MIB)
    options = guest("shell", *drive(disk, "d0", ",discard=unmap"), *drive(short, "d1"))
    async with started(*options, directory=tmp_path) as vm, shell(vm) as linux, vm.qmp() as qmp:
        before = disk.stat().st_blocks
        (await linux.run(f"range discard /dev/vda {4 * MIB} {2 * MIB}")).check()
        assert before - disk.stat().st_blocks >= 2 * MIB // 512 - 16, (
            "a hole, but for the file system's blocks"
        )
        (await linux.run(f"range zero /dev/vda {MIB} {MIB}")).check()
        assert disk.read_bytes()[: 3 * MIB] == b"x" * MIB + bytes(MIB) + b"x" * MIB

        os.truncate(short, 4 * MIB)  # behind the guest's back
        read = "dd if=/dev/vdb of=/dev/null iflag=direct bs=4k count=1 skip="
        assert (await linux.run(f"{read}1024 2>&1")).status != 0
        (await linux.run(f"{read}1023 2>&1")).check()
        assert "I/O error" in (await linux.run("dmesg | tail -n 20")).check()
        stats = {each["device"]: each["stats"] for each in await qmp.execute("query-blockstats")}
        assert stats["d0"]["unmap_operations"] >= 1
        assert stats["d1"]["failed_rd_operations"] >= 1
        assert (await qmp.execute("query-status"))["status"] == "running"
    assert "the image has become shorter" in vm.stderr()

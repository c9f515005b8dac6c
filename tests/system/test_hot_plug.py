"""Disks come and go while a real Linux runs and uses another, as the manual and as kata ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.disks import MIB, drive, image, shell
from tests.system.qmp import Qmp, QmpError
from tests.system.vm import started

Options = Callable[..., list[str]]


def content(number: int) -> bytes:
    """What disk ``number`` begins with."""
    return f"disk {number} ".encode() * 1000


async def add(qmp: Qmp, path: Path, id: str, **device: Any) -> None:
    """The manual's two messages; ``device_add`` names no drive: the id does."""
    await qmp.execute(
        "blockdev-add",
        **{
            "node-name": id,
            "file": {"driver": "file", "filename": str(path)},
            "cache": {"direct": True},
            "read-only": False,
        },
    )
    await qmp.execute("device_add", id=id, driver="virtio-blk-mmio", **device)


async def remove(qmp: Qmp, id: str) -> None:
    await qmp.execute("device_del", id=id)
    assert (await qmp.wait_event("DEVICE_DELETED"))["data"] == {"device": id, "path": id}
    await qmp.execute("blockdev-del", **{"node-name": id})


MANUAL: list[dict[str, Any]] = [{"addr": f"0x{slot}"} for slot in (1, 2, 3)]
KATA: list[dict[str, Any]] = [
    {"addr": str(slot), "romfile": "", "share-rw": "on", "serial": f"kata-{slot}"} for slot in (1, 2, 3)
]


@pytest.mark.parametrize("ways", [MANUAL, KATA], ids=["manual", "kata"])
async def test_disks_come_and_go_while_the_guest_uses_another(
    guest: Options, tmp_path: Path, ways: list[dict[str, Any]]
) -> None:
    await disks_come_and_go(guest, tmp_path, ways, rounds=2)


async def disks_come_and_go(guest: Options, directory: Path, ways: list[dict[str, Any]], rounds: int) -> None:
    """Three disks are plugged in, looked at, written to and taken out, again and again."""
    busy = image(directory / "busy.img", 32 * MIB)
    plugged = [image(directory / f"{n}.img", (8 + n) * MIB, content(n)) for n in (1, 2, 3)]
    names = ["", "vdb", "vdc", "vdd"]
    async with (
        started(*guest("shell", *drive(busy, "busy")), directory=directory) as vm,
        shell(vm) as linux,
        vm.qmp() as qmp,
    ):
        loop = (
            "while :; do dd if=/dev/vda of=/dev/null iflag=direct bs=256k 2>/dev/null || echo >/tmp/bad; done"
        )
        (await linux.run(f"({loop}) >/dev/null 2>&1 & echo $! >/tmp/loop")).check()
        for round in range(rounds):
            for number, (path, way) in enumerate(zip(plugged, ways, strict=True), 1):
                await add(qmp, path, f"drive-{number}", **way)
                disk = names[number]
                assert (await linux.run(f"cat /sys/block/{disk}/size")).check().strip() == str(
                    (8 + number) * 2048
                )
                begin = (await linux.run(f"dd if=/dev/{disk} iflag=direct bs=8k count=1 2>/dev/null")).check()
                expected = content(number) if not round else f"written {number}".encode()
                assert begin.startswith(expected[:9].decode())
                mark = f"printf 'written {number}' | dd of=/dev/{disk} conv=notrunc,fsync bs=512 2>/dev/null"
                (await linux.run(mark)).check()
            for number in (1, 2, 3):
                await remove(qmp, f"drive-{number}")
                assert (await linux.run(f"cat /sys/block/{names[number]}/size")).check().strip() == "0"
            for number, path in enumerate(plugged, 1):
                assert path.read_bytes()[:9] == f"written {number}".encode()
        assert (await linux.run("kill $(cat /tmp/loop); ls /tmp/bad")).status != 0, (
            "the busy disk never failed"
        )


async def test_what_cannot_be_plugged_is_refused_by_name(guest: Options, tmp_path: Path) -> None:
    mine = image(tmp_path / "mine.img", MIB)
    options = guest("up", "-S", *drive(mine, "d0"), "-drive", f"id=spare,file={tmp_path / 'spare.img'}")
    options += ["-object", "iothread,id=io0"]
    image(tmp_path / "spare.img", MIB)
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp:

        async def refused(command: str, **arguments: Any) -> str:
            with pytest.raises(QmpError) as caught:
                await qmp.execute(command, **arguments)
            return str(caught.value)

        file = {"driver": "file", "filename": str(mine)}
        assert "in use by another program" in await refused(
            "blockdev-add", **{"node-name": "x", "file": file}
        )
        file = {"driver": "host_device", "filename": str(mine)}
        assert "is not a block device" in await refused("blockdev-add", **{"node-name": "x", "file": file})
        file = {"driver": "file", "filename": "nowhere.img"}
        assert "nowhere.img: No such file" in await refused(
            "blockdev-add", **{"node-name": "x", "file": file}
        )
        assert "occupied" in await refused("device_add", id="spare", driver="virtio-blk-mmio", addr="0x0")
        assert "in use by device" in await refused(
            "device_add", id="d1", driver="virtio-blk-mmio", drive="d0"
        )
        assert 'no iothread "io9"' in await refused(
            "device_add", id="spare", driver="virtio-blk-mmio", iothread="io9"
        )
        await qmp.execute("device_add", id="spare", driver="virtio-blk-mmio", iothread="io0")
        assert "in use by device" in await refused("blockdev-del", **{"node-name": "spare"})
        await remove(qmp, "spare")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0

"""A guest breaks every rule of every device: the machine stays manageable over QMP and ends when told to."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.guests.bare import running
from tests.security.peers import talking
from tests.system.qmp import Qmp
from tests.system.vm import Vm

ROUNDS = {"tcg": 1600, "kvm": 40}
"""Each is 64 actions of the guest; an emulating KVM (kvm_pvm) takes sixty times as long for one as tcg."""

LOG_LIMIT = 64 << 10
PATIENCE = 60
"""Seconds until the guest has, by chance, found the queue of its second console."""


@pytest.mark.parametrize("accel", ["tcg", "kvm"])
async def test_a_machine_with_a_hostile_guest_stays_manageable(tmp_path: Path, accel: str) -> None:
    async with running("hostile", accel, tmp_path) as vm:
        await survives(vm, ROUNDS[accel], calls=accel == "tcg")
    assert "Traceback" not in vm.stderr()
    assert len(vm.stderr()) < LOG_LIMIT


async def survives(vm: Vm, rounds: int, *, calls: bool) -> None:
    """So many rounds, and more until the guest has called the host over vsock, if ``calls``."""
    async with vm.console() as console, vm.qmp() as qmp:
        async with talking(vm.directory / "vsock") as peers:
            for _ in range(rounds // 10):
                await console.expect(b"." * 10)
                assert (await qmp.execute("query-status"))["status"] == "running"
                await plug_and_unplug(qmp, vm.directory / "second.img")
                async with vm.console("hvc") as hvc:
                    await hvc.type("anybody there?")
            with trio.fail_after(PATIENCE):
                while not await qmp.execute("ringbuf-read", device="ring", size=4096):
                    await console.expect(b".")
                while calls and not peers.called:
                    await console.expect(b".")
            await qmp.execute("stop")
            await qmp.execute("cont")
            await console.expect(b"..")
            await qmp.execute("system_reset")
            await console.expect(b"..")
        await qmp.execute("quit")
    assert await vm.exit_code() == 0


async def plug_and_unplug(qmp: Qmp, image: Path) -> None:
    image.write_bytes(bytes(1 << 20))
    file = {"driver": "file", "filename": str(image)}
    await qmp.execute("blockdev-add", **{"node-name": "second", "file": file})
    await qmp.execute("device_add", id="second", driver="virtio-blk-mmio", addr="0x3")
    await qmp.execute("device_del", id="second")
    await qmp.wait_event("DEVICE_DELETED")
    await qmp.execute("blockdev-del", **{"node-name": "second"})

"""A guest that is saved in the middle of its work, and restored, ends it as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stratovirt.testing.options import VmOptions
from stratovirt.testing.vm import launched
from tests.network import Namespace, namespace
from tests.system.kills import killed_while_saving
from tests.system.workloads import Sizes, Workloads

ROUNDS = 3
KILLS = 20


@pytest.fixture
def net() -> Iterator[Namespace]:
    with namespace() as space:
        yield space


@pytest.mark.parametrize("smp", [1, 2])
async def test_work_goes_on_through_snapshots(
    smp: int, net: Namespace, cloud_kernel: Path, tmp_path: Path
) -> None:
    net.add_tap("tap0")
    await saved_and_restored(ROUNDS, smp, net, cloud_kernel, tmp_path)


async def saved_and_restored(rounds: int, smp: int, net: Namespace, kernel: Path, directory: Path) -> None:
    """The workloads, with so many snapshots from each of which a new process goes on."""
    work = Workloads(Sizes(rounds), directory / "disk.img", net)
    work.prepare()
    snapshot, hvc = directory / "snapshot", directory / "hvc.sock"
    options = (
        *("-drive", f"id=disk,file={work.disk}", "-device", "virtio-blk-device,drive=disk"),
        *("-netdev", "tap,id=n0,ifname=tap0", "-device", "virtio-net-device,netdev=n0"),
        *("-chardev", f"socket,id=hvc,path={hvc},server,nowait"),
        *("-device", "virtio-serial-device", "-device", "virtconsole,chardev=hvc"),
    )
    wanted = VmOptions(kernel=kernel, smp=smp, accel="tcg", command=net.stratovirt, options=options)
    restored = replace(wanted, prompt=None, options=(*options, "-incoming", f"file:{snapshot}"))
    async with net.peer("send", work.sizes.transfer) as peer:
        for life in range(rounds + 1):
            async with launched(restored if life else wanted) as vm, vm.qmp() as qmp:
                if not life:
                    await vm.booted()
                    await work.start(vm)
                await work.talk(hvc)
                if life == rounds:
                    await work.finish(vm, peer)
                    assert "clocksource" not in (await vm.run("dmesg | grep -i unstable; true")).output
                else:
                    await qmp.execute("migrate", uri=f"file:{snapshot}")
                await qmp.execute("quit")


async def test_a_machine_killed_while_it_writes_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    outcome = await killed_while_saving(KILLS, seed=1, directory=tmp_path)
    assert outcome.begun, "no kill came in the middle of a snapshot"
    assert outcome.written < KILLS, "every kill came too late"

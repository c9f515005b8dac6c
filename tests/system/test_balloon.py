"""A real Linux guest gives memory back to the host and gets it back, by its balloon and by page reporting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from stratovirt.errors import ConfigError
from stratovirt.testing import Vm, VmOptions, launched
from stratovirt.testing.options import default_initrd, default_kernel
from stratovirt.testing.recorded import RecordedQmp

MIB = 1 << 20
WITHIN = 60  # seconds
POLL_SECONDS = 0.05
RATION, PERIOD = 4096, 0.5  # bytes of entropy in so many seconds
FILL = "mount -t tmpfs -o size=100% fill /mnt && dd if=/dev/zero of=/mnt/fill bs=1M count={} 2>/dev/null"
EMPTY = "umount /mnt"


@pytest.fixture(scope="module", autouse=True)
def _guest() -> None:
    try:
        default_initrd(default_kernel().image)
    except ConfigError as error:
        pytest.skip(str(error))


def with_devices(*options: str) -> VmOptions:
    return VmOptions(memory="1G", accel="tcg", options=options)


async def total(vm: Vm) -> int:
    """MemTotal of the guest, in bytes."""
    return int((await vm.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo")).check()) << 10


async def filled_and_emptied(vm: Vm, mebibytes: int) -> None:
    """Let the guest touch so much of its memory."""
    (await vm.run(f"{FILL.format(mebibytes)}; {EMPTY}")).check()


async def until(condition: Callable[[], bool]) -> None:
    """Nothing tells of the host's memory, so look again and again."""
    with trio.fail_after(WITHIN):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(POLL_SECONDS)


async def resized(qmp: RecordedQmp, size: int) -> None:
    """Ask for ``size`` bytes, and wait until the guest has them."""
    assert await qmp.execute("balloon", {"value": size}) == {}
    await answered(qmp, lambda said: said["actual"] == size)


async def answered(qmp: RecordedQmp, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer to query-balloon that is as wanted."""
    with trio.fail_after(WITHIN):
        while True:
            said: dict[str, Any] = await qmp.execute("query-balloon")
            if condition(said):
                return said
            await trio.sleep(POLL_SECONDS)


async def test_memory_goes_to_the_host_and_comes_back_with_the_balloon() -> None:
    """The manual's two examples, with their value as well; one boot for all of it."""
    async with launched(with_devices("-device", "virtio-balloon-device,id=balloon0")) as vm:
        await vm.booted()
        async with vm.qmp() as qmp:
            await filled_and_emptied(vm, 800)
            full, total_before = vm.memory(), await total(vm)
            async with qmp.events("BALLOON_CHANGED") as moves:
                await resized(qmp, 512 * MIB)
                assert 512 * MIB <= (await moves.get(timeout=WITHIN)).data["actual"] < 1024 * MIB
            assert total_before - await total(vm) > 450 * MIB
            assert full - vm.memory() > 450 * MIB
            small = vm.memory()

            assert await qmp.execute("balloon", {"value": 2147483648}) == {}
            await resized(qmp, 1024 * MIB)
            assert await total(vm) == total_before
            await filled_and_emptied(vm, 800)
            assert vm.memory() - small > 450 * MIB

            await resized(qmp, 768 * MIB)
            await qmp.execute("system_reset")
            assert await qmp.execute("query-balloon") == {"actual": 1024 * MIB}
            await vm.console.expect(b"Linux version")
            await vm.booted()
            assert await total(vm) == total_before
            assert await qmp.execute("query-balloon") == {"actual": 1024 * MIB}


async def test_pages_that_the_guest_has_freed_go_to_the_host_and_statistics_are_told() -> None:
    balloon = "virtio-balloon-device,free-page-reporting=on,guest-stats-polling-interval=1"
    async with launched(with_devices("-device", balloon)) as vm:
        await vm.booted()
        async with vm.qmp() as qmp:
            await filled_and_emptied(vm, 100)  # what it touches once and for all
            await until(lambda: vm.memory() < 320 * MIB)
            before = vm.memory()
            (await vm.run(FILL.format(700))).check()
            assert vm.memory() - before > 450 * MIB
            (await vm.run(EMPTY)).check()
            await until(lambda: vm.memory() < before + 32 * MIB)

            said = await answered(qmp, lambda said: "stats" in said)
            assert said["stats"]["stat-total-memory"] == await total(vm)
            assert 0 < said["stats"]["stat-free-memory"] < 1024 * MIB


async def test_a_guest_that_runs_out_of_memory_takes_pages_out_of_the_balloon_and_entropy_is_rationed() -> (
    None
):
    options = (
        *("-device", "virtio-balloon-device,deflate-on-oom=on"),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", f"virtio-rng-device,rng=rng0,max-bytes={RATION},period={PERIOD * 1000:.0f}"),
    )
    async with launched(VmOptions(accel="tcg", options=options)) as vm, vm.qmp() as qmp:
        await vm.booted()
        total_before = await total(vm)
        await resized(qmp, 160 * MIB)
        assert await total(vm) == total_before
        (await vm.run("dd if=/dev/zero of=/dev/null bs=150M count=1")).check()
        assert (await qmp.execute("query-balloon"))["actual"] > 170 * MIB

        start = trio.current_time()
        assert "virtio_rng" in (await vm.run("cat /sys/class/misc/hw_random/rng_current")).check()
        assert (await vm.run("dd if=/dev/hwrng bs=1024 count=20 2>/dev/null | wc -c")).check() == "20480\n"
        assert trio.current_time() - start > (20480 / RATION - 2) * PERIOD

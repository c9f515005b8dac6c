"""Devices that are told the same again and again, while the guest's data is looked after."""

from __future__ import annotations

import random
from pathlib import Path

from stratovirt.testing import launched
from tests.system import test_consoles
from tests.system.test_balloon import MIB, resized, total, with_devices

KEPT = "mount -t tmpfs -o size=100% kept /mnt && head -c 32000000 /dev/urandom >/mnt/kept"
SUM = "sha256sum </mnt/kept"
SMALLEST, LARGEST = 300 * MIB, 1024 * MIB


async def balloon(moves: int, number: int, _directory: Path) -> None:
    """The balloon goes anywhere, again and again: what the guest keeps in its memory stays as it is."""
    chance = random.Random(number)
    async with launched(with_devices("-device", "virtio-balloon-device")) as vm, vm.qmp() as qmp:
        await vm.booted()
        memory = await total(vm)
        kept = (await vm.run(f"{KEPT} && {SUM}")).check()
        for _ in range(moves):
            await resized(qmp, chance.randrange(SMALLEST, LARGEST, 4096))
            assert (await vm.run(SUM)).check() == kept
        await resized(qmp, LARGEST)
        assert await total(vm) == memory


async def console(_number: int, directory: Path) -> None:
    """A login on hvc0, a late reader, a megabyte in, three out past a stuck reader."""
    await test_consoles.test_a_console_on_a_socket(directory)

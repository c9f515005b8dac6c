"""Devices that are told the same again and again, while the guest's data is looked after."""

from __future__ import annotations

import os
import random
from pathlib import Path

import trio

from stratovirt.testing import Vm, launched
from tests import guests
from tests.system import test_consoles, test_vsock
from tests.system.test_balloon import MIB, resized, total, with_devices

KEPT = "mount -t tmpfs -o size=100% kept /mnt && head -c 32000000 /dev/urandom >/mnt/kept"
SUM = "sha256sum </mnt/kept"
AT_A_TIME = 20
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


async def vsock(connections: int, number: int, directory: Path) -> None:
    """Connections of all sizes, some broken off: what is sent comes back, and in the end none is left."""
    chance = random.Random(number)
    kernel = guests.cloud_kernel()
    options = test_vsock.with_vsock(kernel, guests.shell_initramfs(kernel), directory)
    async with launched(options) as vm:
        await vm.booted()
        (await vm.run(test_vsock.ECHO)).check()
        await test_vsock.a_megabyte_is_echoed(directory / "v.sock")
        before = await left(vm)
        for _ in range(connections // AT_A_TIME):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_A_TIME):
                    data = chance.randbytes(chance.choice((1, 4096, 65536, chance.randrange(MIB))))
                    nursery.start_soon(echoed, directory / "v.sock", data, chance.randrange(4) == 0)
        with trio.fail_after(test_vsock.WITHIN):
            while await left(vm) != before:
                await vm.run("usleep 100000")


async def echoed(socket: Path, data: bytes, broken_off: bool) -> None:
    """One connection: all of it, or as much as there is when the host's end goes."""
    async with await test_vsock.connected(socket, 7) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data)
            if not broken_off:
                await stream.send_eof()

        nursery.start_soon(send)
        if not broken_off:
            assert await test_vsock.read_all(stream) == data
            return
        assert data.startswith(await stream.receive_some())
        nursery.cancel_scope.cancel()


async def left(vm: Vm) -> tuple[int, str]:
    """Descriptors of the machine's process, and processes of the guest that still echo."""
    echoing = (await vm.run("pidof vsock | wc -w")).check()
    return len(os.listdir(f"/proc/{vm.process.pid}/fd")), echoing

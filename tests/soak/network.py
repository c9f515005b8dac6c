"""Transfers that are long, and stopped again and again."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stratovirt.testing.vm import Vm
from tests.guests import cloud_kernel
from tests.network import Namespace, last_line, namespace
from tests.network.guests import TAP_SERVER, Server, configure, guest, receive_from_host, seconds_for
from tests.system.test_user_network import LOOPBACK, PLAIN_USER, user_networking

MIB = 1 << 20
SIZE = 256 * MIB
MEMORY = "1G"  # for a file of that size
PASST_CONNECTIONS = 4
"""Passt of 2023 resets a connection whose server has been too slow for 20 s, under QEMU too."""
LONGEST_RUN, LONGEST_STOP = 2.0, 0.5  # seconds


async def over_tap(number: int, _directory: Path) -> None:
    """Both ways over a tap in a namespace, with stops."""
    options = ["-netdev", "tap,id=n0,ifname=tap0", "-device", "virtio-net-device,netdev=n0"]
    with namespace() as net:
        net.add_tap("tap0")
        async with guest(net, cloud_kernel(), *options, memory=MEMORY) as vm:
            await configure(vm)
            await both_ways(vm, net, TAP_SERVER, number)


async def over_passt(number: int, _directory: Path) -> None:
    """Both ways over user networking, for a plain user, with stops."""
    with namespace() as net:
        net.add_uplink()
        options = user_networking()
        async with guest(net, cloud_kernel(), *options, user=PLAIN_USER, memory=MEMORY) as vm:
            (await vm.run("udhcpc -i eth0 -n -q")).check()
            await both_ways(vm, net, LOOPBACK, number, connections=PASST_CONNECTIONS)


async def both_ways(vm: Vm, net: Namespace, server: Server, number: int, *, connections: int = 1) -> None:
    """Every byte arrives, however often the machine is stopped meanwhile."""
    size = SIZE // connections
    made = f"head -c {size} /dev/urandom >/tmp/file && sha256sum </tmp/file"
    sent = (await vm.run(made, seconds=seconds_for(SIZE))).check().split()[0]
    async with stopping(vm, number):
        for _ in range(connections):
            await receive_from_host(vm, net, size, server)
            async with net.peer("receive", listen=server.listens_at) as peer:
                sending = f"nc {server.seen_at} 5001 </tmp/file"
                (await vm.run(sending, seconds=seconds_for(size))).check()
                assert await last_line(peer) == f"{size} {sent}"


@asynccontextmanager
async def stopping(vm: Vm, number: int) -> AsyncIterator[None]:
    """Stop the machine and let it go on at random, during the block."""
    chance = random.Random(number)
    async with vm.qmp() as qmp, trio.open_nursery() as nursery:

        async def stop_and_cont() -> None:
            while True:
                await trio.sleep(chance.uniform(0, LONGEST_RUN))
                with trio.CancelScope(shield=True):
                    await qmp.execute("stop")
                    await trio.sleep(chance.uniform(0, LONGEST_STOP))
                    await qmp.execute("cont")

        nursery.start_soon(stop_and_cont)
        yield
        nursery.cancel_scope.cancel()

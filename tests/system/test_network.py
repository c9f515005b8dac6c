"""A real Linux guest on a tap in a network namespace: transfers, link state, hot plug, and no loss."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.network import HOST, Namespace, last_line, namespace
from tests.network.guests import carrier, configure, guest, receive_from_host, send_to_host

MIB = 1 << 20
TRANSFER = 16 * MIB
TAP, NO_PI, VNET_HDR, TUNSETIFF = 2, 0x1000, 0x4000, 0x400454CA


@pytest.fixture
def net() -> Iterator[Namespace]:
    with namespace() as space:
        yield space


def open_tap(net: Namespace, name: str) -> int:
    """A descriptor as a manager passes it to us."""

    def opened() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_PI | VNET_HDR))
        return fd

    return net.call(opened)


async def test_a_guest_pings_and_transfers_both_ways_over_a_tap(net: Namespace, cloud_kernel: Path) -> None:
    net.add_tap("tap0")
    options = ["-netdev", "tap,id=n0,ifname=tap0"]
    options += ["-device", "virtio-net-device,netdev=n0,id=card,mac=52:54:00:00:00:77"]
    async with guest(net, cloud_kernel, *options) as vm:
        assert (await vm.run("cat /sys/class/net/eth0/address")).check().strip() == "52:54:00:00:00:77"
        assert (await vm.run("ls /sys/class/net")).check().split() == ["eth0", "eth1", "lo"]
        await configure(vm)
        (await vm.run(f"ping -c 3 -i 0.2 {HOST}")).check()
        await send_to_host(vm, net, 4 * MIB)
        await receive_from_host(vm, net, TRANSFER)

        # An interface that goes down loses frames and nothing else.
        net.ip("link set dev tap0 down")
        assert (await vm.run(f"ping -c 1 -W 1 {HOST}")).status != 0
        net.ip("link set dev tap0 up")
        (await vm.run(f"ping -c 1 -W 10 {HOST}")).check()


async def test_stop_in_mid_transfer_loses_nothing(net: Namespace, cloud_kernel: Path) -> None:
    net.add_tap("tap0")
    options = ["-netdev", "tap,id=n0,ifname=tap0", "-device", "virtio-net-device,netdev=n0"]
    async with guest(net, cloud_kernel, *options) as vm, vm.qmp() as qmp, net.peer("send", TRANSFER) as peer:
        await configure(vm)
        transfer = f"nc {HOST} 5001 </dev/null | tee /tmp/data | sha256sum >/tmp/sum; touch /tmp/done"
        (await vm.run(f"({transfer}) >/dev/null 2>&1 &")).check()
        (await vm.run("until [ -s /tmp/data ]; do usleep 1000; done")).check()
        for _ in range(3):
            await qmp.execute("stop")
            with trio.move_on_after(0.3):  # the peer fills what is between it and the guest
                await peer.wait()
            await qmp.execute("cont")
        (await vm.run("until [ -e /tmp/done ]; do usleep 20000; done")).check()
        got = (await vm.run("cat /tmp/sum")).check().split()[0]
        assert await last_line(peer) == f"{TRANSFER} {got}"


async def test_a_card_is_plugged_in_by_getfd_and_out_again(net: Namespace, cloud_kernel: Path) -> None:
    net.add_tap("tap0")
    async with guest(net, cloud_kernel) as vm, vm.qmp() as qmp:
        await configure(vm)
        await carrier(vm, "0")
        for round in range(2):
            fd = open_tap(net, "tap0")
            await qmp.execute("getfd", fdname="tap", fds=[fd])
            os.close(fd)
            await qmp.execute("netdev_add", {"id": "net0", "type": "tap", "fds": "tap"})
            await qmp.execute("device_add", id="net0", driver="virtio-net-mmio", addr="0x0")
            await carrier(vm, "1")
            (await vm.run(f"ping -c 1 -W 10 {HOST}")).check()
            shown = await qmp.execute("human-monitor-command", {"command-line": "info network"})
            assert " \\ net0: index=0,type=tap,ifname=tap0,queues=1\r\n" in shown
            await receive_from_host(vm, net, MIB if round else 4 * MIB)
            async with qmp.events("DEVICE_DELETED") as events:
                await qmp.execute("device_del", id="net0")
                assert (await events.get(timeout=30)).data["device"] == "net0"
            await qmp.execute("netdev_del", id="net0")
            await carrier(vm, "0")


async def test_two_queues_of_a_guest_with_its_own_mac_carry_a_transfer_at_the_taps_mtu(
    net: Namespace, cloud_kernel: Path
) -> None:
    net.add_tap("tap0", options="multi_queue")
    net.ip("link set dev tap0 mtu 1400")
    options = ["-netdev", "tap,id=n0,ifname=tap0,queues=2", "-device", "virtio-net-device,netdev=n0,mq=on"]
    async with guest(net, cloud_kernel, *options, smp=2) as vm:
        assert (await vm.run("cat /sys/class/net/eth0/mtu")).check() == "1400\n"
        (await vm.run("ip link set eth0 address 52:54:00:00:00:99")).check()  # by the control queue
        await configure(vm)
        assert (await vm.run("ls -d /sys/class/net/eth0/queues/rx-*")).check().count("rx-") == 2
        await receive_from_host(vm, net, 4 * MIB)
        await send_to_host(vm, net, 4 * MIB)

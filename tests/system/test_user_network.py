"""A real Linux guest reaches the world through passt, as root and as a plain user, and outlives it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network import GATEWAY, UPLINK, Namespace, namespace
from tests.network.guests import Server, carrier, guest, receive_from_host, send_to_host

MIB = 1 << 20
TRANSFER = 8 * MIB
LOOPBACK = Server("127.0.0.1", GATEWAY)
"""passt shows the host's loopback to the guest as its gateway."""
PLAIN_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""No capability in the namespaces of the test, no root to itself."""


@pytest.fixture
def net() -> Iterator[Namespace]:
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    with namespace() as space:
        space.add_uplink()
        yield space


def user_networking(options: str = "") -> list[str]:
    return ["-netdev", f"user,id=n0{options}", "-device", "virtio-net-device,netdev=n0,id=card"]


async def test_a_plain_users_guest_gets_an_address_and_transfers_both_ways(
    net: Namespace, cloud_kernel: Path
) -> None:
    async with guest(net, cloud_kernel, *user_networking(), user=PLAIN_USER) as vm:
        (await vm.run("udhcpc -i eth0 -n -q")).check()
        assert f"inet {UPLINK}/24" in (await vm.run("ip address show eth0")).check()
        await send_to_host(vm, net, TRANSFER, LOOPBACK)
        await receive_from_host(vm, net, TRANSFER, LOOPBACK)


async def test_a_forwarded_port_leads_into_the_guest(net: Namespace, cloud_kernel: Path) -> None:
    async with guest(net, cloud_kernel, *user_networking(",hostfwd=tcp:127.0.0.1:2222-:22")) as vm:
        (await vm.run("udhcpc -i eth0 -n -q")).check()
        (await vm.run("echo welcome | nc -l -p 22 >/tmp/came 2>&1 &")).check()
        (await vm.run("until netstat -ltn | grep -q :22; do usleep 20000; done")).check()
        answer = net.run(
            "sh", "-c", "echo hello from outside | ncat --no-shutdown -i 1 127.0.0.1 2222 || true"
        )
        assert "welcome" in answer
        assert "hello from outside" in (await vm.run("cat /tmp/came")).check()


async def test_the_guest_lives_on_when_passt_dies_and_a_new_one_can_be_plugged_in(
    net: Namespace, cloud_kernel: Path
) -> None:
    async with guest(net, cloud_kernel, *user_networking()) as vm, vm.qmp() as qmp:
        (await vm.run("ip link set eth0 up")).check()
        await carrier(vm, "1")
        [passt] = Path(f"/proc/{vm.pid}/task/{vm.pid}/children").read_text().split()
        os.kill(int(passt), signal.SIGKILL)
        await carrier(vm, "0")
        assert (await qmp.execute("query-status"))["status"] == "running"
        assert "passt of n0 has ended" in vm.stderr()
        assert ",link=down\r\n" in await qmp.execute(
            "human-monitor-command", {"command-line": "info network"}
        )

        await qmp.execute("device_del", id="card")
        await qmp.execute("netdev_del", id="n0")
        await qmp.execute("netdev_add", id="n1", type="user")
        await qmp.execute("device_add", id="n1", driver="virtio-net-mmio")
        await carrier(vm, "1")
        (await vm.run("udhcpc -i eth0 -n -q")).check()
        await receive_from_host(vm, net, MIB, LOOPBACK)

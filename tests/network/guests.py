"""Linux guests on networks of their own, and what they transfer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from stratovirt.testing.options import VmOptions
from stratovirt.testing.process import COMMAND
from stratovirt.testing.vm import Vm, launched
from tests.network import GUEST, HOST, Namespace, last_line

PORT = 5001
TRANSFER_SECONDS = 60
"""For each 16 MiB: a software CPU on a loaded host needs ten."""


class Server(NamedTuple):
    """Where a server of the host's listens, and where a guest sees it."""

    listens_at: str
    seen_at: str


TAP_SERVER = Server(HOST, HOST)


@asynccontextmanager
async def guest(
    net: Namespace,
    kernel: Path,
    *options: str,
    smp: int = 1,
    memory: str = "256M",
    user: Sequence[str] = (),
) -> AsyncIterator[Vm]:
    """A guest within the namespace, booted.

    :param user: a command in front, which changes to another user.
    """
    command = net.command(*user, *COMMAND)
    wanted = VmOptions(kernel=kernel, memory=memory, smp=smp, accel="tcg", command=command, options=options)
    async with launched(wanted) as vm:
        await vm.booted()
        yield vm


async def configure(vm: Vm, address: str = GUEST, card: str = "eth0") -> None:
    (await vm.run(f"ip link set {card} up && ip address add {address}/24 dev {card}")).check()


async def carrier(vm: Vm, wanted: str, card: str = "eth0") -> None:
    """Wait until the guest has seen the link go up or down."""
    file = f"/sys/class/net/{card}/carrier"
    (await vm.run(f"until [ $(cat {file}) = {wanted} ]; do usleep 20000; done")).check()


async def send_to_host(vm: Vm, net: Namespace, size: int, server: Server = TAP_SERVER) -> None:
    """A transfer out of the guest, with equal checksums."""
    made = f"head -c {size} /dev/urandom | tee /tmp/copy | nc {server.seen_at} {PORT}"
    async with net.peer("receive", listen=server.listens_at) as peer:
        await vm.run("rm -f /tmp/copy && mkfifo /tmp/copy")
        command = f"sha256sum </tmp/copy >/tmp/sum & {made} && wait && cat /tmp/sum"
        sent = (await vm.run(command, seconds=seconds_for(size))).check().split()[0]
        assert await last_line(peer) == f"{size} {sent}"


async def receive_from_host(vm: Vm, net: Namespace, size: int, server: Server = TAP_SERVER) -> None:
    """A transfer into the guest, with equal checksums. The guest's end stays open for the other direction:
    passt of 2023 resets a connection of which one half is closed."""
    async with net.peer("send", size, listen=server.listens_at) as peer:
        await vm.run("rm -f /tmp/open && mkfifo /tmp/open")
        command = f"nc {server.seen_at} {PORT} <>/tmp/open | sha256sum"
        got = (await vm.run(command, seconds=seconds_for(size))).check().split()[0]
        assert await last_line(peer) == f"{size} {got}"


def seconds_for(size: int) -> float:
    """How long a transfer may take."""
    return TRANSFER_SECONDS * (1 + size / (16 << 20))

"""What a Linux guest does while it is saved and restored, and whether it came out right in the end.

Each runs in the background of the guest's shell until it is done: writes to a disk, a TCP transfer, a load of
the CPUs, and a session on hvc0.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import trio

from stratovirt.testing import GuestConsole, Vm, open_socket
from tests.network import HOST, Namespace, last_line
from tests.network.guests import PORT, configure

MIB = 1 << 20
WITHIN = 300
"""Seconds for all of it."""


class Sizes:
    """How much there is to do.

    :param rounds: how often the guest is saved and restored meanwhile.
    """

    def __init__(self, rounds: int) -> None:
        self.blocks = 6 * rounds  # of 1 MiB, on the disk
        self.transfer = 4 * rounds * MIB
        self.numbers = 20 * rounds  # thousands, to be hashed


def _lines(first: int, last: int) -> bytes:
    """What seq(1) prints."""
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


class Workloads:
    """Those of one guest, through all its lives."""

    def __init__(self, sizes: Sizes, disk: Path, net: Namespace) -> None:
        self.sizes = sizes
        self.disk = disk
        self.net = net
        self._asked = 0

    def prepare(self) -> None:
        """Make the disk."""
        with self.disk.open("wb") as file:
            file.truncate(self.sizes.blocks * MIB)

    async def start(self, vm: Vm) -> None:
        """Begin all of them."""
        await configure(vm)
        sizes = self.sizes
        for name, work in {
            "disk": (
                f"for i in $(seq {sizes.blocks}); do seq $((i * 1000)) $((i * 1000 + 9000)) |"
                " dd of=/dev/vda bs=1M seek=$((i - 1)) iflag=fullblock conv=notrunc,fsync; done"
            ),
            "net": (
                f"nc {HOST} {PORT} </dev/null | while dd bs=64k count=4 iflag=fullblock of=/tmp/part"
                " && [ -s /tmp/part ]; do cat /tmp/part; usleep 20000; done | sha256sum >/tmp/net"
            ),
            "cpu": f"for i in $(seq {sizes.numbers}); do seq $i $((i + 1000)); done | sha256sum >/tmp/cpu",
        }.items():
            (await vm.run(f"({work}; touch /tmp/{name}.done) >/dev/null 2>&1 &")).check()
        session = "stty raw -echo; while read -r line; do echo heard $line; done"
        (await vm.run(f"({session}) <>/dev/hvc0 >&0 2>&1 &")).check()

    async def talk(self, socket: Path, lines: int = 20) -> None:
        """Go on with the session on hvc0: each line has its answer, and no other."""
        async with await open_socket(socket) as stream:
            console = GuestConsole(stream)
            for _ in range(lines):
                self._asked += 1
                await console.type(f"line {self._asked}")
                answer = await console.expect(b"\n")
                assert answer.strip() == b"heard line %d" % self._asked

    async def finish(self, vm: Vm, peer: trio.Process) -> None:
        """Wait for the ends, and compare what came of it."""
        for name in ("disk", "net", "cpu"):
            wait = f"until [ -e /tmp/{name}.done ]; do usleep 50000; done; sync"
            (await vm.run(wait, seconds=WITHIN)).check()
        sent = await last_line(peer)
        assert sent == f"{self.sizes.transfer} {await self._sum(vm, 'net')}"
        numbers = b"".join(_lines(first, first + 1000) for first in range(1, self.sizes.numbers + 1))
        assert await self._sum(vm, "cpu") == hashlib.sha256(numbers).hexdigest()
        with self.disk.open("rb") as disk:
            for block in range(self.sizes.blocks):
                first = (block + 1) * 1000
                lines = _lines(first, first + 9000)
                disk.seek(block * MIB)
                assert disk.read(len(lines)) == lines

    async def _sum(self, vm: Vm, name: str) -> str:
        return (await vm.run(f"cat /tmp/{name}")).check().split()[0]

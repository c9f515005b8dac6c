"""virtio-fs passes requests to a file server and its answers back, and outlives it."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence

import pytest
import trio
import trio.testing

from stratovirt.backends.vhostuser import VhostUser
from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import NEEDS_RESET
from stratovirt.devices.virtio.fs import RINGS_ADDRESS, VirtioFs
from stratovirt.errors import SnapshotError
from stratovirt.nursery.devices import DeviceTask
from tests.device.virtio import WRITE, DriverRig, driving

REQUESTS = 1
NEXT = 1
WITHIN = 10  # seconds


class FakeFileServer:
    """A server in this process: it takes from the lent rings what it is told to answer."""

    def __init__(self) -> None:
        self._here, self._there = os.pipe()
        self.shared: list[Sequence[tuple[int, int, int, int]]] = []
        self.stopped: list[int] = []
        self.gone = False
        self._rings: mmap.mmap | None = None
        self._queues: dict[int, dict[str, int]] = {}

    @property
    def fd(self) -> int:
        return self._here

    def share(self, features: int, regions: Sequence[tuple[int, int, int, int]]) -> None:
        self.shared.append(regions)
        [rings] = [region for region in regions if region[0] == RINGS_ADDRESS]
        self._forget_rings()
        self._rings = mmap.mmap(rings[2], rings[1])

    def start(
        self, queue: int, size: int, descriptors: int, available: int, used: int, *, kick: int, call: int
    ) -> None:
        self._queues[queue] = {
            "size": size,
            "descriptors": descriptors,
            "available": available - RINGS_ADDRESS,
            "used": used - RINGS_ADDRESS,
            "call": call,
            "seen": 0,
        }

    def stop(self, queues: Iterable[int]) -> None:
        if self.gone:
            raise BrokenPipeError(32, "Broken pipe")
        self.stopped += queues

    def has_gone(self) -> bool:
        return self.gone

    def hang_up(self) -> None:
        self.gone = True

    def close(self) -> None:
        self._forget_rings()
        os.close(self._here)
        os.close(self._there)

    def vanish(self) -> None:
        """As a process that is killed."""
        self.gone = True
        os.write(self._there, b"!")

    def offered(self, queue: int = REQUESTS) -> list[int]:
        """Heads that wait to be served."""
        assert self._rings is not None
        its = self._queues[queue]
        (index,) = struct.unpack_from("<H", self._rings, its["available"] + 2)
        slots = [slot % its["size"] for slot in range(its["seen"], index)]
        return [struct.unpack_from("<H", self._rings, its["available"] + 4 + 2 * slot)[0] for slot in slots]

    def use(self, head: int, written: int, queue: int = REQUESTS) -> None:
        """Give a chain back."""
        assert self._rings is not None
        its = self._queues[queue]
        slot = its["seen"] % its["size"]
        struct.pack_into("<II", self._rings, its["used"] + 4 + 8 * slot, head, written)
        its["seen"] += 1
        struct.pack_into("<H", self._rings, its["used"] + 2, its["seen"])
        os.eventfd_write(its["call"], 1)

    def answer(self, rig: DriverRig, data: bytes, queue: int = REQUESTS) -> bytes:
        """Serve the first request that waits, out of guest memory and into it; what it said."""
        head = self.offered(queue)[0]
        request, at = b"", head
        while True:
            raw = rig.memory.read(self._queues[queue]["descriptors"] + 16 * at, 16)
            address, length, flags, following = struct.unpack("<QIHH", raw)
            if flags & WRITE:
                rig.memory.write(address, data[:length])
            else:
                request += rig.memory.read(address, length)
            if not flags & NEXT:
                break
            at = following
        self.use(head, len(data), queue)
        return request

    def _forget_rings(self) -> None:
        if self._rings is not None:
            self._rings.close()


class SlowFileServer(FakeFileServer):
    """It leaves the guest's memory alone when :attr:`gate` is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = threading.Event(), threading.Event()
        self.opened: list[bool] = []

    def stop(self, queues: Iterable[int]) -> None:
        self.asked.set()
        self.opened.append(self.gate.wait(WITHIN))


def test_the_driver_is_told_the_tag_and_of_one_request_queue() -> None:
    with driving(VirtioFs("share", FakeFileServer())) as rig:
        tag = bytes(rig.config(at, 1) for at in range(36))
        assert tag == b"share".ljust(36, b"\0")
        assert rig.config(36, 4) == 1


def test_a_request_reaches_the_server_and_its_answer_the_driver() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        for number in range(300):  # round the rings more than once
            rig.queue(REQUESTS).offer([b"look", b"up"], [8, 8])
            rig.serve()
            rises = rig.irq.rises
            assert server.answer(rig, f"answer {number}".encode()) == b"lookup"
            rig.serve()
            [used] = rig.queue(REQUESTS).collect()
            assert used.length == len(f"answer {number}")
            assert used.data[:8] == f"answer {number}".encode()[:8]
            assert rig.irq.rises + rig.irq.level > rises
            rig.write(mmio.INTERRUPT_ACK, 3)


def test_several_requests_are_answered_in_the_servers_own_order() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        heads = [rig.queue(REQUESTS).offer([b"x"], [4]) for _ in range(3)]
        rig.serve()
        assert server.offered() == heads
        for head in reversed(heads):
            server.use(head, 4)
        rig.serve()
        assert [used.head for used in rig.queue(REQUESTS).collect()] == heads[::-1]


def test_what_the_server_says_of_chains_that_it_does_not_have_is_nothing_to_the_driver() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        head = rig.queue(REQUESTS).offer([b"x"], [4])
        rig.serve()
        for wrong in (head + 9, 0xFFFF_FFFF, head, head):
            server.use(wrong, 0xFFFF_FFFF)
        rig.serve()
        assert [used[:2] for used in rig.queue(REQUESTS).collect()] == [(head, 4)]


def test_a_chain_that_the_server_still_has_cannot_be_offered_again() -> None:
    with driving(VirtioFs("share", FakeFileServer())) as rig:
        rig.negotiate()
        head = rig.queue(REQUESTS).offer([b"x"], [4])
        rig.queue(REQUESTS).make_available(head)
        rig.queue(REQUESTS).kick()
        rig.serve()
        assert rig.read(mmio.STATUS) & NEEDS_RESET


def test_a_reset_waits_for_the_server_and_the_next_driver_begins_anew() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        rig.queue(REQUESTS).offer([b"old"], [4])
        rig.serve()
        rig.write(mmio.STATUS, 0)
        assert server.stopped == [0, 1]
        rig.negotiate()
        assert server.offered() == []
        rig.queue(REQUESTS).offer([b"new"], [4])
        rig.serve()
        assert server.answer(rig, b"done") == b"new"
        rig.serve()
        assert [used.data for used in rig.queue(REQUESTS).collect()] == [b"done"]


def test_when_the_server_has_gone_the_device_needs_a_reset_and_nobody_waits() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        server.vanish()
        rig.serve()
        assert rig.read(mmio.STATUS) & NEEDS_RESET
        rig.negotiate()
        rig.queue(REQUESTS).offer([b"x"], [4])
        rig.serve()
        assert rig.read(mmio.STATUS) & NEEDS_RESET


def test_a_server_that_cannot_be_stopped_is_hung_up_on() -> None:
    server = FakeFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        server.gone = True
        rig.write(mmio.STATUS, 0)
        assert rig.read(mmio.STATUS) == 0
        assert server.gone


def test_a_guests_cpu_waits_for_a_silent_server_once_and_not_for_seconds() -> None:
    ours, theirs = socket.socketpair()
    with theirs, driving(VirtioFs("share", VhostUser(ours))) as rig:
        rig.negotiate()
        began = time.monotonic()
        for _ in range(10):
            rig.write(mmio.STATUS, 0)
            rig.negotiate()
        assert time.monotonic() - began < 4  # of one second for one call


async def test_trio_goes_on_while_a_reset_waits_for_the_server() -> None:
    server = SlowFileServer()
    with driving(VirtioFs("share", server)) as rig:
        rig.negotiate()
        rig.transport.detach(rig.reactor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(DeviceTask(rig.transport).run)
            nursery.start_soon(trio.to_thread.run_sync, rig.write, mmio.STATUS, 0)
            await trio.to_thread.run_sync(server.asked.wait, WITHIN)
            server.use(0, 0)  # the device is to take the lock
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.gate.set()
            nursery.cancel_scope.cancel()
        rig.transport.attach(rig.reactor)
    assert server.opened == [True], "trio waited with the reset"


def test_a_shared_directory_is_not_saved() -> None:
    with driving(VirtioFs("share", FakeFileServer())) as rig, pytest.raises(SnapshotError, match="share"):
        rig.device.save()

"""A driver on one thread and the device on another: whatever the driver writes, nothing escapes.

Guest RAM has guard pages on both sides, so an access outside it ends this process.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import open_raw
from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.devices.virtio.constants import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.fs import VirtioFs
from stratovirt.devices.virtio.net import VirtioNet
from stratovirt.devices.virtio.rng import VirtioRng
from stratovirt.devices.virtio.vsock import VirtioVsock
from tests.device.test_virtio_console import FakeLine
from tests.device.test_virtio_fs import FakeFileServer
from tests.device.test_virtio_net import Cable
from tests.device.virtio import MEMORY, DriverRig, driving
from tests.device.vsock import GUEST_CID, PairHost

DISK_SIZE = 1 << 20


def make_block(claimed: ExitStack) -> VirtioBlock:
    fd = os.memfd_create("disk")
    claimed.callback(os.close, fd)
    os.ftruncate(fd, DISK_SIZE)
    disk = open_raw(f"/proc/self/fd/{fd}", DiskOptions(discard=True))
    claimed.callback(disk.close)
    return VirtioBlock("disk", disk, "serial", queues=2)


def make_rng(claimed: ExitStack) -> VirtioRng:
    source = os.open("/dev/urandom", os.O_RDONLY)
    claimed.callback(os.close, source)
    return VirtioRng(source)


def make_card(claimed: ExitStack) -> VirtioNet:
    cable = Cable(pairs=2)
    claimed.callback(cable.close)
    return VirtioNet(bytes.fromhex("525400000001"), pairs=2, backend=cable)


def make_balloon(claimed: ExitStack) -> VirtioBalloon:
    return VirtioBalloon(MEMORY, deflate_on_oom=True, page_reporting=True, statistics_seconds=1)


class EchoingLine(FakeLine):
    """A line with little room, where what is put is typed: it fills, and empties again."""

    def put(self, data: bytes) -> None:
        super().put(data)
        self.type(data)

    def take(self, limit: int) -> bytes:
        data = super().take(limit)
        self.make_room(self.left + len(data))
        return data


def make_console(_claimed: ExitStack) -> VirtioConsole:
    device = VirtioConsole(max_ports=2)
    for room in (16, 1024):
        device.plug(EchoingLine(room))
    return device


def make_vsock(claimed: ExitStack) -> VirtioVsock:
    host = PairHost()
    claimed.callback(host.close)
    for port in range(3):
        host.call(b"CONNECT %d\n" % port)
    return VirtioVsock(GUEST_CID, host)


DEVICES: dict[str, Callable[[ExitStack], VirtioDevice]] = {
    "balloon": make_balloon,
    "block": make_block,
    "console": make_console,
    "entropy": make_rng,
    "files": lambda _claimed: VirtioFs("share", FakeFileServer()),
    "network": make_card,
    "vsock": make_vsock,
}
"""How to make each device there is, with a backend plugged in that the stack closes."""

ALIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
ANY_32 = st.one_of(st.integers(0, 16), st.integers(0, 0xFFFF_FFFF))
ADDRESSES = st.one_of(
    st.integers(0x100_0000, 0x110_0000), st.integers(MEMORY - 64, MEMORY + 64), st.integers(0, (1 << 64) - 1)
)
LENGTHS = st.one_of(st.sampled_from([0, 1, 12, 16, 512, 4096, 1 << 16, 0xFFFF_FFFF]), ANY_32)
DESCRIPTORS = st.tuples(ADDRESSES, LENGTHS, st.integers(0, 7), st.integers(0, 20))

REGISTER_WRITES = st.tuples(
    st.just("write"),
    st.one_of(
        st.integers(0, 0x1FF),
        st.sampled_from([mmio.STATUS, mmio.QUEUE_SEL, mmio.QUEUE_READY, mmio.INTERRUPT_ACK]),
    ),
    ANY_32,
)
REQUESTS = st.tuples(
    st.just("request"),
    st.integers(0, 3),
    st.tuples(st.lists(DESCRIPTORS, min_size=1, max_size=4), st.binary(max_size=64)),
)
NEGOTIATIONS = st.tuples(st.just("negotiate"), ANY_32, st.integers(0, 6))
ACTIONS = st.lists(st.one_of(REGISTER_WRITES, REQUESTS, REQUESTS, NEGOTIATIONS), max_size=30)


@contextmanager
def served_meanwhile(rig: DriverRig) -> Iterator[None]:
    """Within the block the device is served on a thread of its own; what escapes there is raised here."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            rig.reactor.look(0.001)

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        try:
            yield
        finally:
            stop.set()
            served.result()


def act(rig: DriverRig, kind: str, where: int, what: object) -> None:
    if kind == "write":
        assert isinstance(what, int)
        size = 4 if where < mmio.CONFIG else 1 << (what & 3)
        rig.transport.mmio_write(where, size, what & (1 << 8 * size) - 1)
        rig.transport.mmio_read(where, size)
    elif kind == "negotiate":
        rig.negotiate(rig.offered() & ~where, size=1 << int(str(what)))
    else:
        assert isinstance(what, tuple)
        request(rig, where, *what)


def request(rig: DriverRig, index: int, descriptors: list[tuple[int, int, int, int]], junk: bytes) -> None:
    """Write descriptors into a queue's table and offer the first; ``junk`` lies where they may point to."""
    if not rig.queues:
        return
    queue = rig.queue(index % len(rig.queues))
    rig.memory.write(0x100_0000, junk)
    for at, (address, length, flags, following) in enumerate(descriptors):
        queue.descriptor(at, address, length, flags, following)
    queue.make_available(0)
    queue.kick()


def driven_by(device: VirtioDevice, actions: list[tuple[str, int, object]], *, native: bool = False) -> None:
    """Let a driver do ``actions``, and then begin anew as a good one does.

    :param native: may C serve the device?
    """
    with driving(device) as rig:
        if native:
            rig.allow_native()
        with served_meanwhile(rig):
            _drive(rig, actions)


def _drive(rig: DriverRig, actions: list[tuple[str, int, object]]) -> None:
    rig.negotiate()
    for action in actions:
        act(rig, *action)
    rig.write(mmio.STATUS, 0)
    assert rig.read(mmio.STATUS) == 0
    rig.negotiate()
    assert rig.read(mmio.STATUS) & (ALIVE | NEEDS_RESET) == ALIVE
    assert struct.pack("<I", rig.read(mmio.MAGIC_VALUE)) == b"virt"


@pytest.mark.parametrize("name", DEVICES)
@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, native=st.booleans())
def test_whatever_a_driver_does_the_device_is_there_for_the_next(
    name: str, actions: list[tuple[str, int, object]], native: bool
) -> None:
    with ExitStack() as claimed:
        driven_by(DEVICES[name](claimed), actions, native=native)

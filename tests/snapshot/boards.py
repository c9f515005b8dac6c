"""Boards with a guest of a few instructions, and one of every device."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stratovirt.accel.choose import Name, choose, load
from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import open_raw
from stratovirt.boot.plan import BootRequest, plan
from stratovirt.boot.platform import virtio_slots
from stratovirt.chardev.port import BytePort
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.net import VirtioNet
from stratovirt.devices.virtio.rng import VirtioRng
from stratovirt.devices.virtio.vsock import VirtioVsock
from stratovirt.machine.microvm import Microvm
from tests.device.vsock import PairHost

Make = Callable[[], VirtioDevice]

RAM = 128 << 20
COUNTER = 0x5000
# xor eax, eax; inc rax; mov [0x5000], rax; pause; jmp to the inc
COUNTS = bytes.fromhex("31c0 48ffc0 4889042500500000 f390 ebf1")


def counter(board: Microvm) -> int:
    """What the guest has counted to."""
    [value] = struct.unpack("<Q", board.memory.read(COUNTER, 8))
    return int(value)


def disk(claimed: ExitStack, size: int = 1 << 20) -> VirtioBlock:
    """A disk with an image of ``size`` bytes."""
    fd = os.memfd_create("disk")
    claimed.callback(os.close, fd)
    os.ftruncate(fd, size)
    image = open_raw(f"/proc/self/fd/{fd}", DiskOptions())
    claimed.callback(image.close)
    return VirtioBlock("disk", image)


def every_device(claimed: ExitStack, **replaced: Make | None) -> list[VirtioDevice]:
    """One of each kind; those in ``replaced`` are made otherwise, or (None) not at all."""
    source = os.open("/dev/urandom", os.O_RDONLY)
    claimed.callback(os.close, source)
    host = PairHost()
    claimed.callback(host.close)
    makers: dict[str, Make | None] = {
        "disk": lambda: disk(claimed),
        "empty": lambda: VirtioBlock("empty"),
        "card": lambda: VirtioNet(bytes.fromhex("525400000001")),
        "rng": lambda: VirtioRng(source),
        "balloon": lambda: VirtioBalloon(RAM),
        "console": lambda: VirtioConsole(1),
        "vsock": lambda: VirtioVsock(3, host),
    }
    return [make() for make in (makers | replaced).values() if make is not None]


@contextmanager
def board(
    directory: Path, accelerator: Name, devices: list[VirtioDevice], **request: Any
) -> Iterator[Microvm]:
    """A board whose kernel counts, not booted yet."""
    kernel = directory / "kernel"
    kernel.write_bytes(COUNTS + bytes(64))
    choice = choose(accelerator)
    load(choice, request.get("cpus", 1))
    slots = virtio_slots(len(devices))
    wanted = BootRequest(str(kernel), None, "", **{"memory_size": RAM, "slots": slots, **request})
    port = BytePort()
    made = Microvm(choice, plan(wanted), devices)
    try:
        made.add_console(port)
        yield made
    finally:
        made.close()
        port.close()


@contextmanager
def running(board: Microvm) -> Iterator[None]:
    """The first vCPU runs meanwhile."""
    thread = threading.Thread(target=board.threads[0].run)
    thread.start()
    try:
        yield
    finally:
        board.threads[0].kick()
        thread.join()

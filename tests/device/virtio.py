"""A fake virtio driver: what Linux does to a device through virtio-mmio registers, without Linux.

It owns guest memory, negotiates, builds descriptor chains and reads the used ring. The device is served in
place, by :meth:`DriverRig.serve`, on the test's own thread.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, VERSION_1
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.mmio import VirtioMmio
from stratovirt.memory import GuestMemory
from tests.device.fakes import FakeIrq

MEMORY = 128 << 20
RINGS, RING_ROOM = 0x10_0000, 0x1_0000
BUFFERS = 0x100_0000
NEXT, WRITE, INDIRECT = 1, 2, 4


class Used(NamedTuple):
    """A used buffer: the chain's head, the length in the used ring, and what the device stored."""

    head: int
    length: int
    data: bytes


class PollReactor:
    """A reactor that calls when it is told to look."""

    def __init__(self) -> None:
        self.ready: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        self.ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        del self.ready[fd]

    def look(self, seconds: float = 0) -> bool:
        """Call for every fd that is readable now, or within ``seconds``; was there one?"""
        readable = select.select(list(self.ready), [], [], seconds)[0]
        for fd in readable:
            if fd in self.ready:
                self.ready[fd]()
        return bool(readable)


class FakeQueue:
    """The driver's side of one queue."""

    def __init__(self, rig: DriverRig, index: int, size: int) -> None:
        self.rig, self.index, self.size = rig, index, size
        base = RINGS + index * RING_ROOM
        self.descriptors, self.available, self.used = base, base + 0x8000, base + 0xC000
        self.available_index = self.seen = self.free = 0
        self._writable: dict[int, list[tuple[int, int]]] = {}

    def enable(self) -> None:
        write = self.rig.write
        write(mmio.QUEUE_SEL, self.index)
        write(mmio.QUEUE_NUM, self.size)
        for register, address in (
            (mmio.QUEUE_DESC, self.descriptors),
            (mmio.QUEUE_DRIVER, self.available),
            (mmio.QUEUE_DEVICE, self.used),
        ):
            write(register, address & 0xFFFF_FFFF)
            write(register + 4, address >> 32)
        write(mmio.QUEUE_READY, 1)

    def send(self, out: Sequence[bytes] = (), into: Sequence[int] = ()) -> Used:
        """Offer one chain, let the device serve, and return what it gave back."""
        self.offer(out, into)
        self.rig.serve()
        [used] = self.collect()
        return used

    def offer(self, out: Sequence[bytes] = (), into: Sequence[int] = ()) -> int:
        """Make a chain of these readable buffers and writable lengths available, and kick; its head."""
        segments = [(self.rig.place(data), len(data), 0) for data in out]
        segments += [(self.rig.place(b"\xee" * length), length, WRITE) for length in into]
        head = self.free
        for number, (address, length, flags) in enumerate(segments):
            last = number == len(segments) - 1
            self.descriptor(self.free, address, length, flags | (0 if last else NEXT), self._after(self.free))
            self.free = self._after(self.free)
        self._writable[head] = [(address, length) for address, length, flags in segments if flags]
        self.make_available(head)
        self.kick()
        return head

    def descriptor(self, at: int, address: int, length: int, flags: int, following: int = 0) -> None:
        data = struct.pack("<QIHH", address, length, flags, following)
        self.rig.memory.write(self.descriptors + 16 * at, data)

    def make_available(self, head: int) -> None:
        slot = self.available_index % self.size
        self.rig.memory.write(self.available + 4 + 2 * slot, struct.pack("<H", head))
        self.available_index = self.available_index + 1 & 0xFFFF
        self.rig.memory.write(self.available + 2, struct.pack("<H", self.available_index))

    def kick(self) -> None:
        self.rig.write(mmio.QUEUE_NOTIFY, self.index)

    def want_interrupt_after(self, used_index: int) -> None:
        """used_event, which RING_EVENT_IDX puts behind the available ring."""
        self.rig.memory.write(self.available + 4 + 2 * self.size, struct.pack("<H", used_index & 0xFFFF))

    def collect(self) -> list[Used]:
        """The buffers that the device has given back since the last call."""
        return list(self._collected())

    def _collected(self) -> Iterator[Used]:
        while self.seen != struct.unpack("<H", self.rig.memory.read(self.used + 2, 2))[0]:
            at = self.used + 4 + 8 * (self.seen % self.size)
            head, length = struct.unpack("<II", self.rig.memory.read(at, 8))
            parts = [self.rig.memory.read(address, size) for address, size in self._writable.pop(head, [])]
            self.seen = self.seen + 1 & 0xFFFF
            self.want_interrupt_after(self.seen)
            yield Used(head, length, b"".join(parts)[:length])

    def _after(self, at: int) -> int:
        return (at + 1) % self.size


class DriverRig:
    """A device with its transport, guest memory, interrupt line and driver."""

    def __init__(self, device: VirtioDevice, memory: int, irq: FakeIrq) -> None:
        self.memory = GuestMemory.allocate(memory)
        self.irq = irq
        self.device = device
        self.transport = VirtioMmio(device, "virtio-test", self.memory, self.irq)
        self.reactor = PollReactor()
        self.transport.attach(self.reactor)
        self.queues: list[FakeQueue] = []
        self._next_buffer = BUFFERS

    def read(self, register: int) -> int:
        return self.transport.mmio_read(register, 4)

    def write(self, register: int, value: int) -> None:
        self.transport.mmio_write(register, 4, value)

    def offered(self) -> int:
        """The device's feature bits."""
        features = 0
        for page in (0, 1):
            self.write(mmio.DEVICE_FEATURES_SEL, page)
            features |= self.read(mmio.DEVICE_FEATURES) << 32 * page
        return features

    def negotiate(self, features: int | None = None, *, size: int = 64) -> None:
        """Become the device's driver, accepting ``features`` and VERSION_1 (None: all that is offered), and
        enable every queue with up to ``size`` entries."""
        accepted = self.offered() if features is None else features | VERSION_1
        self.write(mmio.STATUS, 0)
        self.write(mmio.STATUS, ACKNOWLEDGE | DRIVER)
        for page in (0, 1):
            self.write(mmio.DRIVER_FEATURES_SEL, page)
            self.write(mmio.DRIVER_FEATURES, accepted >> 32 * page & 0xFFFF_FFFF)
        self.write(mmio.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.read(mmio.STATUS) & FEATURES_OK, "the device refuses the features"
        largest = enumerate(self.device.queue_sizes)
        self.queues = [FakeQueue(self, index, min(size, most)) for index, most in largest]
        for queue in self.queues:
            self.memory.write(queue.descriptors, bytes(RING_ROOM))
            queue.enable()
        self.write(mmio.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def queue(self, index: int) -> FakeQueue:
        return self.queues[index]

    def config(self, offset: int, size: int) -> int:
        """A field of the config space."""
        return self.transport.mmio_read(mmio.CONFIG + offset, size)

    def place(self, data: bytes) -> int:
        """Put ``data`` somewhere into guest memory; where."""
        if self._next_buffer + len(data) > self.memory.size:
            self._next_buffer = BUFFERS
        address = self._next_buffer
        self.memory.write(address, data)
        self._next_buffer += len(data) + 15 & ~15
        return address

    def allow_native(self, written: int = 0) -> None:
        """Let C serve the device where it can, and tell ``written`` of what it writes."""
        self.memory.native_written = written
        self.transport.detach(self.reactor)
        self.transport.attach(self.reactor)

    def serve(self) -> None:
        """Let the device do all that there is to do."""
        while self.reactor.look():
            pass

    def close(self) -> None:
        self.transport.detach(self.reactor)
        self.transport.close()
        self.memory.close()


@contextmanager
def driving(device: VirtioDevice, memory: int = MEMORY, irq: FakeIrq | None = None) -> Iterator[DriverRig]:
    """A rig around ``device``, taken apart at the end of the block."""
    rig = DriverRig(device, memory, irq or FakeIrq())
    try:
        yield rig
    finally:
        rig.close()

"""Frames between a network card's queues and ports, by C (native/net.c).

:mod:`stratovirt.devices.virtio.netqueues` says what it does. What C cannot do whole it leaves where it is,
for the code there.
"""

from __future__ import annotations

from stratovirt.devices.virtio.queue import Virtqueue
from stratovirt.memory import GuestMemory
from stratovirt.native.net import Net, Passed

BATCH = 8
"""Frames of 64 KiB, at most, before the driver hears of them, and may reset the device."""


class NativePath:
    """Passes frames as far as C can."""

    def __init__(self, net: Net) -> None:
        self._net = net

    @classmethod
    def of(cls, memory: GuestMemory) -> NativePath | None:
        """None: all frames are for Python."""
        if memory.native_written is None:
            return None
        return cls(Net(memory.native_regions(), memory.native_written))

    def receive(self, queue: Virtqueue, fd: int, *, mergeable: bool) -> Passed:
        """Some of the frames that have come; the driver has been told."""
        passed = self._net.receive(queue.native, queue.position, fd, mergeable=mergeable, most=BATCH)
        if passed.frames:
            queue.served(passed.chains)
            queue.notify()
        return passed

    def send(self, queue: Virtqueue, fd: int) -> tuple[Passed, bool]:
        """Some of the frames that wait in the queue, of which the driver has been told; are there more?"""
        passed = self._net.send(queue.native, queue.position, fd, most=BATCH)
        if not passed.frames:
            return passed, False
        queue.served(passed.chains)
        if passed.frames == BATCH:
            queue.notify()
            return passed, True
        return passed, queue.settle()

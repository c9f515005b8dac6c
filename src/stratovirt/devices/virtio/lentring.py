"""Rings for a process that serves a guest's queue in our place.

It reads the guest's descriptors, and instead of the guest's rings those here, in memory that the guest cannot
reach. So what the guest offers is checked before the process sees it, and what the process has done is known
here before the guest hears of it. Indices are 16-bit items of memoryviews, as in the queue: each is loaded
and stored whole while the process looks.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

_INDEX, _RING = 1, 2  # words: the index, and where the entries begin (virtio 1.2 §2.7.6, §2.7.8)
_USED_ELEMENT = struct.Struct("<II")
_WRAP = 0xFFFF
_USED = 0x800  # bytes within a queue's page

MAX_SIZE = 128
"""Of a queue whose rings fit into their page."""


class LentRings:
    """The available and used rings of ``count`` queues, a page for each.

    :param address: guest address that the process is told; no RAM is there.
    :raises OSError: no memory or fds are left.
    """

    def __init__(self, count: int, address: int) -> None:
        self.address = address
        self.size = count * mmap.PAGESIZE
        self.fd = os.memfd_create("rings", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size)
        self._memory = mmap.mmap(self.fd, self.size)

    def ring(self, queue: int, size: int) -> LentRing:
        """New rings of ``size`` entries for a queue; the process is not at work there."""
        start = queue * mmap.PAGESIZE
        self._memory[start : start + mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
        page = memoryview(self._memory)[start : start + mmap.PAGESIZE]
        return LentRing(page, size, self.address + start)

    def close(self) -> None:
        """Give the memory back; no ring is used any more."""
        self._memory.close()
        os.close(self.fd)


class LentRing:
    """One queue's rings, in its page.

    :ivar available: guest address of the available ring, as the process is told.
    :ivar used: that of the used ring.
    """

    def __init__(self, page: memoryview, size: int, address: int) -> None:
        self.available, self.used = address, address + _USED
        self._available, self._used = page[:_USED].cast("H"), page[_USED:].cast("H")
        self._used_elements = page[_USED + 2 * _RING :]
        self._size = size
        self._offered = self._collected = 0

    def offer(self, head: int) -> None:
        """Make the chain that begins with descriptor ``head`` available. Never more than fit in."""
        self._available[_RING + self._offered % self._size] = head
        self._offered = self._offered + 1 & _WRAP
        # Behind the entry: x86 keeps the order of stores.
        self._available[_INDEX] = self._offered

    def collect(self) -> Iterator[tuple[int, int]]:
        """Head and written bytes of what the process has used since the last call; at most a ring of it."""
        for _ in range(min(self._used[_INDEX] - self._collected & _WRAP, self._size)):
            slot = self._collected % self._size
            self._collected = self._collected + 1 & _WRAP
            yield _USED_ELEMENT.unpack_from(self._used_elements, 8 * slot)

"""Rings for a process that serves a guest's queue in our place.

It reads the guest's descriptors, and instead of the guest's rings those here, in memory that the guest cannot
reach. So what the guest offers is checked before the process sees it, and what the process has done is known
here before the guest hears of it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

_RING = 4  # where the entries begin, behind flags and index (virtio 1.2 §2.7.6, §2.7.8)
_U16 = struct.Struct("<H")
_INDEX = 2
_USED_ELEMENT = struct.Struct("<II")
_WRAP = 0xFFFF
_USED = 0x800  # within a queue's page

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
        return LentRing(self._memory, start, size, self.address + start)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.fd)


class LentRing:
    """One queue's rings.

    :ivar available: guest address of the available ring, as the process is told.
    :ivar used: that of the used ring.
    """

    def __init__(self, memory: mmap.mmap, start: int, size: int, address: int) -> None:
        self.available, self.used = address, address + _USED
        self._memory = memory
        self._available_at, self._used_at = start, start + _USED
        self._size = size
        self._offered = self._collected = 0

    def offer(self, head: int) -> None:
        """Make the chain that begins with descriptor ``head`` available. Never more than fit in."""
        slot = self._offered % self._size
        _U16.pack_into(self._memory, self._available_at + _RING + 2 * slot, head)
        self._offered = self._offered + 1 & _WRAP
        # Behind the entry: x86 keeps the order of stores.
        _U16.pack_into(self._memory, self._available_at + _INDEX, self._offered)

    def collect(self) -> Iterator[tuple[int, int]]:
        """Head and written bytes of what the process has used since the last call; at most a ring of it."""
        (index,) = _U16.unpack_from(self._memory, self._used_at + _INDEX)
        for _ in range(min(index - self._collected & _WRAP, self._size)):
            slot = self._collected % self._size
            self._collected = self._collected + 1 & _WRAP
            yield _USED_ELEMENT.unpack_from(self._memory, self._used_at + _RING + 8 * slot)

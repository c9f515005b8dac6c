"""Split virtqueues (virtio 1.2 §2.7): descriptor chains out of guest memory, used buffers back into it.

The law of this file: the driver is hostile. Every index, length and address is checked where it is read; what
breaks the rules raises :class:`BrokenQueue`, and nothing outside guest RAM is ever touched.

The rings' indices are loaded and stored as 16-bit items of a memoryview, which is one access each. The struct
module stores zeros first: a driver on another CPU would now and then see the used index go back, and take
buffers that are not used yet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

from stratovirt.devices.virtio.barrier import full_barrier
from stratovirt.devices.virtio.constants import RING_EVENT_IDX, RING_INDIRECT_DESC
from stratovirt.memory import BadAddress, GuestMemory
from stratovirt.native.queue import Queue as NativeQueue

# struct virtq_desc: address, length, flags, next (§2.7.5).
_DESCRIPTOR = struct.Struct("<QIHH")
_NEXT, _WRITE, _INDIRECT = 1, 2, 4

_USED_ELEMENT = struct.Struct("<II")  # head of the chain, bytes written (§2.7.8)
# The available and the used ring as 16-bit words: flags, index, the ring, and the event index behind it.
_FLAGS, _INDEX, _RING = 0, 1, 2
_USED_WORDS = _USED_ELEMENT.size // 2
_NO_INTERRUPT = 1

MAX_SEGMENTS = 1024
"""Descriptors of one chain. Linux makes chains longer than the queue with indirect descriptors; this is
QEMU's VIRTQUEUE_MAX_SIZE."""

_WRAP = 0xFFFF


class BrokenQueue(Exception):
    """The driver broke the rules of the queue; the device needs a reset."""


class Rings(NamedTuple):
    """Guest physical addresses of a queue's three parts: aligned to 16, 2 and 4 bytes (§2.7)."""

    descriptors: int
    available: int
    used: int


class Chain:
    """A descriptor chain: what the driver offers the device to read and to write.

    :ivar head: its number in the descriptor table.
    :ivar readable: segments of guest memory with the driver's data, in order.
    :ivar writable: segments for the device's data, in order.
    """

    __slots__ = ("head", "readable", "readable_length", "writable", "writable_gpas", "writable_length")

    def __init__(self, head: int) -> None:
        self.head = head
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []
        self.writable_gpas: list[int] = []
        self.readable_length = 0
        self.writable_length = 0

    def read(self, limit: int | None = None) -> bytes:
        """The driver's data in one piece, at most ``limit`` bytes of it."""
        if len(self.readable) == 1 and limit is None:
            return bytes(self.readable[0])
        return b"".join(cut(self.readable, 0, self.readable_length if limit is None else limit))

    def write(self, data: bytes | memoryview, offset: int = 0) -> int:
        """Store ``data`` at ``offset`` of the writable part; how many bytes there was room for."""
        done = 0
        for segment in cut(self.writable, offset, len(data)):
            segment[:] = data[done : done + len(segment)]
            done += len(segment)
        return done


def cut(segments: list[memoryview], offset: int, length: int) -> list[memoryview]:
    """The part of ``segments``, seen as one run of bytes, from ``offset`` on, at most ``length`` bytes."""
    parts = []
    for segment in segments:
        if length <= 0:
            break
        if offset >= len(segment):
            offset -= len(segment)
            continue
        part = segment[offset : offset + length]
        parts.append(part)
        offset, length = 0, length - len(part)
    return parts


class Virtqueue:
    """A queue that the driver has enabled.

    :param size: of the rings, a power of two.
    :param features: as negotiated; RING_EVENT_IDX and RING_INDIRECT_DESC matter here.
    :param interrupt: called by :meth:`notify` when the driver wants to hear of used buffers.
    :raises BrokenQueue: a ring is misaligned or not in RAM.
    :ivar live: False once the driver has reset the device or disabled the queue.
    """

    def __init__(
        self,
        memory: GuestMemory,
        index: int,
        size: int,
        rings: Rings,
        features: int,
        interrupt: Callable[[], None],
    ) -> None:
        if size <= 0 or size & (size - 1):
            raise BrokenQueue(f"size {size} is no power of two")
        self.index = index
        self.size = size
        self.live = True
        self.rings = rings
        self._memory = memory
        self._interrupt = interrupt
        self._event_idx = bool(features & RING_EVENT_IDX)
        self._indirect = bool(features & RING_INDIRECT_DESC)
        self._rings = rings
        self._descriptors = self._ring("descriptor table", rings.descriptors, 16, 16 * size)
        self._available = self._ring("available ring", rings.available, 2, 6 + 2 * size).cast("H")
        used = self._ring("used ring", rings.used, 4, 6 + 8 * size)
        self._used, self._used_elements = used.cast("H"), used[2 * _RING :]
        self._next = 0  # next entry of the available ring to take
        self._used_index = 0
        self._signalled = 0  # the used index when the driver was last considered for an interrupt
        self._armed = -1  # the index that the driver was last asked to kick at

    def pop(self) -> Chain | None:
        """Take the next available chain. None: there is none, and the driver kicks when there is one.

        :raises BrokenQueue: the driver broke a rule.
        """
        if not self.backlog():
            self._arm()
            if not self.backlog():
                return None
        slot = self._next & (self.size - 1)
        chain = self.chain_at(self._available[_RING + slot])
        self._next = self._next + 1 & _WRAP
        return chain

    def put_back(self, count: int = 1) -> None:
        """The chains that :meth:`pop` gave last are the next to be taken again; as QEMU's virtqueue_unpop."""
        self._next = self._next - count & _WRAP

    def chain_at(self, head: int) -> Chain:
        """The chain that begins with descriptor ``head``; also for chains that are held over a snapshot.

        :raises BrokenQueue: the driver broke a rule.
        """
        chain = Chain(head)
        self._walk(chain, self._descriptors, self.size, head, may_be_indirect=self._indirect)
        return chain

    @cached_property
    def native(self) -> NativeQueue:
        """The queue for C: to be served from :attr:`position` on, with :meth:`served` afterwards, or lent."""
        hosts = (self._memory.host_address(gpa, 1) for gpa in self._rings)
        return NativeQueue(*hosts, size=self.size, indirect=self._indirect, event_idx=self._event_idx)

    @property
    def position(self) -> tuple[int, int]:
        """The ring index of the next chain to take, and of the next to be given back."""
        return self._next, self._used_index

    def served(self, count: int) -> None:
        """So many chains were taken and given back by C."""
        self._next = self._next + count & _WRAP
        self._used_index = self._used_index + count & _WRAP

    def lend(self, serve: Callable[[NativeQueue], int]) -> int:
        """Let C do what :meth:`pop`, :meth:`push` and :meth:`notify` do; what ``serve`` returns."""
        progress = self.native.progress
        progress.next, progress.used_index = self._next, self._used_index
        progress.signalled, progress.armed = self._signalled, self._armed
        end = serve(self.native)
        self._next, self._used_index = progress.next, progress.used_index
        self._signalled, self._armed = progress.signalled, progress.armed
        if progress.interrupt:
            self._interrupt()
        return end

    def push(self, chain: Chain, written: int = 0) -> None:
        """Give ``chain`` back, with ``written`` bytes stored from the beginning of its writable part."""
        self.push_together(((chain, written),))

    def push_together(self, used: Iterable[tuple[Chain, int]]) -> None:
        """Give several chains back as :meth:`push` does, so that the driver sees all of them or none."""
        if not self.live:
            return
        index = self._used_index
        for chain, written in used:
            written = min(written, chain.writable_length)
            self._tell_written(chain, written)
            _USED_ELEMENT.pack_into(self._used_elements, 8 * (index & self.size - 1), chain.head, written)
            index = index + 1 & _WRAP
        self._used_index = index
        # Behind the elements: x86 keeps the order of stores.
        self._used[_INDEX] = index

    def notify(self) -> None:
        """Interrupt the driver if it wants to hear of what was pushed since the last call."""
        if not self.live or self._used_index == self._signalled:
            return
        full_barrier()
        self._interrupt_if_wanted()

    def settle(self) -> bool:
        """:meth:`notify`, and ask the driver for a kick at the next chain, with one fence for both.

        Waits there a chain already? Then the kick may not come.
        """
        if not self._event_idx:
            self.notify()
        elif self.live:
            self._used[_RING + _USED_WORDS * self.size] = self._armed = self._next
            full_barrier()
            self._interrupt_if_wanted()
        return self.live and self.backlog() > 0

    def backlog(self) -> int:
        """How many chains wait to be taken.

        :raises BrokenQueue: more than there can be.
        """
        count = self._available[_INDEX] - self._next & _WRAP
        if count > self.size:
            raise BrokenQueue(f"{count} chains are available in a queue of {self.size}")
        return count

    def save(self) -> dict[str, int]:
        """Where both sides are in the rings; the rings themselves are in guest memory."""
        return {"next": self._next, "used": self._used_index, "signalled": self._signalled}

    def load(self, state: dict[str, int]) -> None:
        """Put in what :meth:`save` gave."""
        self._next, self._used_index = state["next"] & _WRAP, state["used"] & _WRAP
        self._signalled = state["signalled"] & _WRAP
        self._armed = -1

    def _ring(self, name: str, gpa: int, alignment: int, length: int) -> memoryview:
        if gpa % alignment:
            raise BrokenQueue(f"{name} at {gpa:#x} is not aligned to {alignment} bytes")
        try:
            return self._memory.segment(gpa, length)
        except BadAddress as error:
            raise BrokenQueue(f"{name}: {error}") from error

    def _arm(self) -> None:
        """Ask the driver for a kick at the next chain; the caller looks once more after it.

        Without RING_EVENT_IDX the driver kicks each time anyway: a kick costs less than the fence.
        """
        if self._event_idx and self._armed != self._next:
            self._used[_RING + _USED_WORDS * self.size] = self._next
            self._armed = self._next
            full_barrier()

    def _interrupt_if_wanted(self) -> None:
        new, old, self._signalled = self._used_index, self._signalled, self._used_index
        if new != old and self._wants_interrupt(old, new):
            self._interrupt()

    def _wants_interrupt(self, old: int, new: int) -> bool:
        """Virtio 1.2 §2.7.7.2: has the used index passed what the driver waits for?"""
        if not self._event_idx:
            return not self._available[_FLAGS] & _NO_INTERRUPT
        event = self._available[_RING + self.size]
        return (new - event - 1 & _WRAP) < (new - old & _WRAP)

    def _walk(self, chain: Chain, table: memoryview, entries: int, at: int, *, may_be_indirect: bool) -> None:
        for _ in range(min(entries, MAX_SEGMENTS)):
            if at >= entries:
                raise BrokenQueue(f"descriptor {at} of {entries}")
            address, length, flags, following = _DESCRIPTOR.unpack_from(table, 16 * at)
            if flags & _INDIRECT:
                self._walk_indirect(chain, address, length, flags, allowed=may_be_indirect)
                return
            self._add(chain, address, length, bool(flags & _WRITE))
            if not flags & _NEXT:
                return
            at = following
        raise BrokenQueue(f"the chain at descriptor {chain.head} is a loop or too long")

    def _walk_indirect(self, chain: Chain, address: int, length: int, flags: int, *, allowed: bool) -> None:
        """A table of descriptors elsewhere; it ends the chain, and holds no further table (§2.7.5.3)."""
        if not allowed or flags & _NEXT or length == 0 or length % 16:
            raise BrokenQueue(f"indirect descriptor of {length} bytes, flags {flags:#x}")
        try:
            table = self._memory.segment(address, length)
        except BadAddress as error:
            raise BrokenQueue(f"indirect table: {error}") from error
        self._walk(chain, table, length // 16, 0, may_be_indirect=False)

    def _add(self, chain: Chain, address: int, length: int, writable: bool) -> None:
        if length == 0 or (chain.writable and not writable):
            raise BrokenQueue("a descriptor is empty, or readable behind a writable one")
        try:
            segment = self._memory.segment(address, length)
        except BadAddress as error:
            raise BrokenQueue(str(error)) from error
        if writable:
            chain.writable.append(segment)
            chain.writable_gpas.append(address)
            chain.writable_length += length
        else:
            chain.readable.append(segment)
            chain.readable_length += length

    def _tell_written(self, chain: Chain, written: int) -> None:
        for gpa, segment in zip(chain.writable_gpas, chain.writable, strict=True):
            if written <= 0:
                return
            self._memory.written(gpa, min(written, len(segment)))
            written -= len(segment)

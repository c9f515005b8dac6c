"""Plain reads and writes of a virtio block device, from its queue to the file of its image, in C."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stratovirt.native._native import ffi, lib
from stratovirt.native.queue import Queue


class Count(NamedTuple):
    """Requests that were carried out, their bytes of data, and the nanoseconds that it took."""

    operations: int
    bytes: int
    nanoseconds: int


class Block:
    """The device.

    :param regions: of guest RAM: guest physical address, size, host address.
    :param written: address of a ``struct native_written`` that is told of what is written there, or 0.
    :param file: descriptor of the image, byte by byte the disk.
    :param sectors: of 512 bytes, that the disk has.
    :raises MemoryError: there is none, or there are too many regions.
    """

    def __init__(
        self, regions: Iterable[tuple[int, int, int]], written: int, *, file: int, sectors: int
    ) -> None:
        areas = ffi.new("struct ram_region[]", list(regions))
        self._block = ffi.gc(lib.block_new(areas, len(areas), written), lib.block_free)
        if self._block == ffi.NULL:
            raise MemoryError
        self._disk = ffi.new("struct block_disk *", (file, False, sectors))
        self._counts = ffi.new("struct block_count[2]")

    def serve(self, queue: Queue, position: tuple[int, int], *, writable: bool, most: int) -> int:
        """Serve at most so many requests from ``position`` on: ring indices of the next chain to take and of
        the next to give back. How many; both have moved by as many.

        Fewer: the queue is empty, it has taken a while, or the next one is not for C.

        :param writable: are writes for C?
        """
        self._disk.writable = writable
        return int(lib.block_serve(self._block, queue.handle, *position, self._disk, most, self._counts))

    def take_counts(self) -> tuple[Count, Count]:
        """Reads and writes since the last call."""
        writes, reads = (Count(each.operations, each.bytes, each.nanoseconds) for each in self._counts)
        ffi.memmove(self._counts, bytes(ffi.sizeof(self._counts)), ffi.sizeof(self._counts))
        return reads, writes

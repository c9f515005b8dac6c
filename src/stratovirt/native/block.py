"""Plain reads and writes of a virtio block device, from its queue to the file of its image, in C."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from stratovirt.native._native import ffi, lib
from stratovirt.native.queue import Queue


class End(enum.IntEnum):
    """Why :meth:`Block.serve` has ended."""

    EMPTY = lib.BLOCK_EMPTY
    """The driver kicks when there is more."""
    MORE = lib.BLOCK_MORE
    """It is time for others."""
    PYTHON = lib.BLOCK_PYTHON
    """The next request is not for C."""


class Block:
    """The device.

    :param regions: of guest RAM: guest physical address, size, host address.
    :param written: address of a ``struct native_written`` that is told of what is written there, or 0.
    :param file: descriptor of the image, byte by byte the disk.
    :param sectors: of 512 bytes, that the disk has.
    :raises MemoryError: there is none, or there are too many regions.
    :ivar writes, reads: ``struct block_count``: what was carried out, and the nanoseconds that it took.
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
        self.writes, self.reads = self._counts

    def serve(self, queue: Queue, *, writable: bool, most: int) -> int:
        """Serve at most so many requests; why no more: an :class:`End`.

        :param writable: are writes for C?
        """
        self._disk.writable = writable
        progress = queue.progress
        return int(lib.block_serve(self._block, queue.handle, progress, self._disk, most, self._counts))

"""What a disk is to the device that shows it to a guest.

The law: data moves between the image and the caller's segments without a copy of ours. Every method may
block, and raises OSError when the host cannot do it; the caller has checked that the range is on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

SECTOR = 512
"""Bytes; virtio 1.2 §5.2.6 counts in them whatever the block size is."""


class Disk(Protocol):
    """An open disk image. Offsets and lengths are in bytes and multiples of :data:`SECTOR`."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of SECTOR."""

    @property
    def read_only(self) -> bool: ...

    @property
    def iops(self) -> int:
        """Requests per second that its user may make; 0: any number."""

    @property
    def file(self) -> int | None:
        """A descriptor whose preadv and pwritev do all that read and write do where they succeed whole; None:
        there is none."""

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Fill ``segments`` with what the disk holds from ``offset`` on."""

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Store ``segments`` at ``offset``."""

    def flush(self) -> None:
        """Return when what was written will survive a crash of the host."""

    def discard(self, offset: int, length: int) -> None:
        """The range is not needed any more; what it reads as from now on is anything."""

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """The range reads zero from now on; ``unmap``: its space may be given back."""

    def interrupt(self) -> None:
        """Let what a thread waits for in a method fail, if that can be done. Any thread; the machine ends."""

    def close(self) -> None:
        """Give the image back. Nobody may be using it."""

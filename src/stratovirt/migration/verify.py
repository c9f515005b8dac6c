"""Is the image of guest RAM still what was saved? All of it is read, a chunk at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from stratovirt.memory.files import is_hole
from stratovirt.migration.image import Image, zeros_checksum
from stratovirt.native.pages import CHECKSUM_SIZE, checksum


class Chunk(NamedTuple):
    """Bytes ``start`` to ``end`` of RAM, and whether they are what was saved."""

    start: int
    end: int
    intact: bool


def verify(fd: int, image: Image) -> Iterator[Chunk]:
    """All chunks of the image ``fd``, one after the other; those that are holes, and should be, take no time.

    :raises OSError: the host cannot read it.
    """
    for number, start in enumerate(range(0, image.size, image.chunk)):
        end = min(start + image.chunk, image.size)
        saved = image.checksums[number * CHECKSUM_SIZE : (number + 1) * CHECKSUM_SIZE]
        yield Chunk(start, end, _checksum(fd, start, end - start) == saved)


def _checksum(fd: int, start: int, length: int) -> bytes | None:
    """None: the file has been cut."""
    if is_hole(fd, start, length):
        return zeros_checksum(length)
    data = os.pread(fd, length, start)
    return checksum(data) if len(data) == length else None


def damaged_ranges(chunks: Iterable[Chunk]) -> Iterator[tuple[int, int]]:
    """Those in ``chunks``, as ``(start, end)``; neighbours are one."""
    for intact, run in groupby(chunks, key=attrgetter("intact")):
        if not intact:
            ranges = [(chunk.start, chunk.end) for chunk in run]
            yield ranges[0][0], ranges[-1][1]

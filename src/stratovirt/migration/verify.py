"""Is the image of guest RAM still what was saved? All of it is read, a chunk at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from stratovirt.memory.files import is_hole
from stratovirt.migration.image import DIGEST_SIZE, NO_DIGEST, Image


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
        digest = image.digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
        yield Chunk(start, end, _is_intact(fd, start, end - start, digest))


def _is_intact(fd: int, start: int, length: int, digest: bytes) -> bool:
    if digest == NO_DIGEST and is_hole(fd, start, length):
        return True
    data = os.pread(fd, length, start)
    if digest == NO_DIGEST:
        return data == bytes(length)
    return hashlib.sha256(data).digest() == digest


def damaged_ranges(chunks: Iterable[Chunk]) -> Iterator[tuple[int, int]]:
    """Those in ``chunks``, as ``(start, end)``; neighbours are one."""
    for intact, run in groupby(chunks, key=attrgetter("intact")):
        if not intact:
            ranges = [(chunk.start, chunk.end) for chunk in run]
            yield ranges[0][0], ranges[-1][1]

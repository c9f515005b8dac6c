"""Snapshots to test with: small, and whoever reads one can tell which it is."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from stratovirt.memory import GuestMemory
from stratovirt.migration.image import CHUNK
from stratovirt.migration.progress import Progress
from stratovirt.migration.reader import open_snapshot
from stratovirt.migration.writer import write_snapshot
from stratovirt.vmstate import Section

PAGE = mmap.PAGESIZE
SIZE = 3 * CHUNK + 5 * PAGE
LEFTOVERS = ".stratovirt-snapshot-*"


def contents(generation: int, size: int = SIZE) -> bytes:
    """RAM whose every chunk tells the generation: runs of random pages between runs of zeros."""
    pages = bytearray(_pages(size))
    for position in range(0, size, CHUNK):
        pages[position : position + 8] = generation.to_bytes(8, "little")
    return bytes(pages)


@cache
def _pages(size: int) -> bytes:
    pick = random.Random(size)
    pages = bytearray()
    while len(pages) < size:
        pages += pick.randbytes(PAGE * pick.randint(1, 9)) + bytes(PAGE * pick.randint(0, 40))
    return bytes(pages[:size])


def sections(generation: int) -> list[Section]:
    return [
        Section("machine", 1, {"generation": generation}),
        Section("uart", 2, {"fifo": b"\0\xff", "level": True}),
    ]


@contextmanager
def guest(data: bytes) -> Iterator[GuestMemory]:
    """Anonymous RAM with ``data`` in it; its zeros were never touched. Closing it finds every leaked view."""
    memory = GuestMemory.allocate(len(data))
    for position in range(0, len(data), PAGE):
        if any(page := data[position : position + PAGE]):
            memory.write(position, page)
    yield memory
    memory.close()


def write(directory: Path, generation: int, size: int = SIZE, progress: Progress | None = None) -> None:
    with guest(contents(generation, size)) as memory:
        write_snapshot(str(directory), memory.regions, sections(generation), progress or Progress(size))


def generation_of(directory: Path, size: int = SIZE) -> int:
    """Open it and compare all of it: the generation that it is, whole."""
    with open_snapshot(str(directory)) as snapshot:
        generation = int(snapshot.sections[0].state["generation"])
        assert list(snapshot.sections) == sections(generation)
        assert snapshot.memory_size == size
        assert os.pread(snapshot.memory_fd, size, 0) == contents(generation, size)
    return generation


def assert_clean(parent: Path) -> None:
    assert list(parent.glob(LEFTOVERS)) == []

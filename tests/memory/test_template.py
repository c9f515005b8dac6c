"""RAM that begins as a file has its contents, and takes nothing of the file where that has holes."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.memory.files import data_runs
from stratovirt.memory.mapping import HUGE_PAGE
from stratovirt.memory.template import MAX_SPLITS, map_template

PAGE = mmap.PAGESIZE
MIB = 1 << 20
SIZE = 20 * MIB


def sparse(*pages: int) -> int:
    """A file of SIZE bytes and one page more, with data in these pages."""
    fd = os.memfd_create("template")
    os.truncate(fd, SIZE + PAGE)
    for page in pages:
        os.pwrite(fd, b"%08d" % page, page * PAGE)
    return fd


@settings(max_examples=20)
@given(st.sets(st.integers(0, SIZE // PAGE - 1), max_size=8))
def test_ram_has_the_files_contents_whatever_its_holes(pages: set[int]) -> None:
    fd = sparse(*pages)
    memory = map_template(fd, SIZE)
    expected = os.pread(fd, SIZE, 0)
    os.close(fd)
    assert memory.read(0, SIZE) == expected
    memory.close()


@given(st.sets(st.integers(0, SIZE // PAGE), max_size=8), st.integers(0, 3))
def test_runs_of_data_are_apart_and_hold_all_of_it(pages: set[int], first: int) -> None:
    fd = sparse(*pages)
    start, length = first * HUGE_PAGE, SIZE - first * HUGE_PAGE
    runs = list(data_runs(fd, start, length, HUGE_PAGE))
    os.close(fd)
    held = [page for page in pages if any(low <= page * PAGE < high for low, high in runs)]
    assert sorted(held) == sorted(page for page in pages if start <= page * PAGE < SIZE)
    assert all(low % HUGE_PAGE == 0 and low < high <= SIZE for low, high in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))
    assert sum(high - low for low, high in runs) <= len(pages) * HUGE_PAGE


@pytest.fixture
def template() -> Iterator[int]:
    fd = sparse(0)
    yield fd
    os.close(fd)


def test_reading_a_hole_takes_nothing_of_the_file(template: int) -> None:
    blocks = os.fstat(template).st_blocks
    memory = map_template(template, SIZE)
    assert memory.read(4 * MIB, 8 * MIB) == bytes(8 * MIB)
    memory.close()
    assert os.fstat(template).st_blocks == blocks


def test_many_small_holes_are_few_mappings(template: int) -> None:
    for page in range(0, SIZE // PAGE, 2):
        os.pwrite(template, b"x", page * PAGE)
    before = len(Path("/proc/self/maps").read_text().splitlines())
    memory = map_template(template, SIZE)
    assert len(Path("/proc/self/maps").read_text().splitlines()) < before + 10
    memory.close()


def test_discards_do_not_use_up_the_hosts_mappings(tmp_path: Path) -> None:
    """A guest may discard page after page, never two together."""
    size = 160 * MIB
    image = tmp_path / "image"
    with image.open("wb") as file:
        for _ in range(size // MIB):
            file.write(b"\xa5" * MIB)
    with image.open("rb") as file:
        memory = map_template(file.fileno(), size)
    try:
        before = _mappings()
        for gpa in range(0, size, 2 * PAGE):
            memory.discard(gpa, PAGE)
            assert not any(memory.read(gpa, 16))
        assert _mappings() - before <= 2 * MAX_SPLITS
        memory.clear()
        assert _mappings() <= before
    finally:
        memory.close()


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("\n")

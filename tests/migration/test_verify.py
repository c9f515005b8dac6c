"""A byte of the image that is not as it was saved is found, and where it is."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.migration.image import CHUNK
from stratovirt.migration.progress import Progress
from stratovirt.migration.reader import open_snapshot
from stratovirt.migration.verify import Chunk, damaged_ranges, verify
from stratovirt.migration.writer import write_snapshot
from tests.migration.samples import SIZE, guest, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "snapshot"
    write(directory, 1)
    return directory


def chunks_of(directory: Path) -> list[Chunk]:
    with open_snapshot(str(directory)) as snapshot:
        return list(verify(snapshot.memory_fd, snapshot.image))


def test_an_intact_image_is_intact_to_its_last_byte(whole: Path) -> None:
    bounds = [0, CHUNK, 2 * CHUNK, 3 * CHUNK, SIZE]
    assert chunks_of(whole) == [Chunk(*pair, True) for pair in pairwise(bounds)]


@given(position=st.integers(0, SIZE - 1), change=st.integers(1, 255))
def test_a_changed_byte_is_in_the_chunk_that_is_damaged(whole: Path, position: int, change: int) -> None:
    fd = os.open(whole / "memory", os.O_RDWR)
    was = os.pread(fd, 1, position)
    os.pwrite(fd, bytes([was[0] ^ change]), position)
    try:
        damaged = [chunk for chunk in chunks_of(whole) if not chunk.intact]
    finally:
        os.pwrite(fd, was, position)
        os.close(fd)
    assert len(damaged) == 1
    assert damaged[0].start <= position < damaged[0].end


@pytest.mark.parametrize(("byte", "intact"), [(b"\0", True), (b"\1", False)])
def test_where_zeros_were_saved_only_zeros_may_be(tmp_path: Path, byte: bytes, intact: bool) -> None:
    data = b"x" * CHUNK + bytes(CHUNK) + b"x" * CHUNK
    with guest(data) as memory:
        write_snapshot(str(tmp_path / "s"), memory.regions, [], Progress(len(data)))
    with (tmp_path / "s/memory").open("r+b") as file:
        file.seek(CHUNK + 5)
        file.write(byte)
    assert [chunk.intact for chunk in chunks_of(tmp_path / "s")] == [True, intact, True]


def test_an_image_that_is_cut_meanwhile_is_damaged(whole: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(whole, tmp_path / "s"))
    with open_snapshot(str(directory)) as snapshot:
        os.truncate(directory / "memory", CHUNK + 1)
        checked = [chunk.intact for chunk in verify(snapshot.memory_fd, snapshot.image)]
    assert checked == [True, False, False, False]


def test_damaged_neighbours_are_one_range() -> None:
    intact = [True, False, False, True, False]
    chunks = [Chunk(number, number + 1, each) for number, each in enumerate(intact)]
    assert list(damaged_ranges(chunks)) == [(1, 3), (4, 5)]
    assert list(damaged_ranges(chunks[:1])) == []

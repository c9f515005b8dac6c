"""A snapshot holds what was in the machine, in no more space than that takes, and replaces the one before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratovirt.errors import SnapshotCancelled, SnapshotError
from stratovirt.memory import GuestMemory, Region
from stratovirt.memory.files import SharedRegion, map_regions
from stratovirt.memory.mapping import Room
from stratovirt.memory.template import map_template
from stratovirt.migration import image
from stratovirt.migration.image import CHUNK, zeros_checksum
from stratovirt.migration.progress import Progress
from stratovirt.migration.reader import open_snapshot
from stratovirt.migration.writer import write_snapshot
from tests.migration.samples import (
    PAGE,
    SIZE,
    assert_clean,
    contents,
    generation_of,
    guest,
    sections,
    write,
)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "snapshot", 1)
    assert generation_of(tmp_path / "snapshot") == 1
    assert_clean(tmp_path)


def test_a_snapshot_is_replaced_by_the_next(tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        write(tmp_path / "snapshot", generation)
        assert generation_of(tmp_path / "snapshot") == generation
    assert os.listdir(tmp_path) == ["snapshot"]
    assert sorted(os.listdir(tmp_path / "snapshot")) == ["memory", "state"]


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    write(tmp_path / "snapshot", 1)
    assert generation_of(tmp_path / "snapshot") == 1


def test_who_has_the_old_one_mapped_keeps_it(tmp_path: Path) -> None:
    write(tmp_path / "snapshot", 1)
    with open_snapshot(str(tmp_path / "snapshot")) as old:
        write(tmp_path / "snapshot", 2)
        assert os.pread(old.memory_fd, SIZE, 0) == contents(1)


def test_a_link_to_a_directory_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "snapshot").symlink_to("elsewhere")
    write(tmp_path / "snapshot", 1)
    assert (tmp_path / "snapshot").is_symlink()
    assert generation_of(tmp_path / "elsewhere") == 1


def test_zero_pages_are_holes(tmp_path: Path) -> None:
    """One page in each of four chunks of 64 MiB."""
    data = bytearray(64 << 20)
    for chunk in (0, 1, 7, 31):
        data[chunk * CHUNK + 3 * PAGE] = 1
    with guest(bytes(data)) as memory:
        write_snapshot(str(tmp_path / "s"), memory.regions, sections(1), Progress(len(data)))
    status = (tmp_path / "s/memory").stat()
    assert status.st_size == len(data) + image.TRAILER_SIZE
    assert status.st_blocks * 512 <= 16 * PAGE
    assert (tmp_path / "s/memory").read_bytes()[: len(data)] == data


def test_pages_that_the_guest_never_touched_are_not_touched(tmp_path: Path) -> None:
    memory = GuestMemory.allocate(1 << 30)
    before = resident()
    write_snapshot(str(tmp_path / "s"), memory.regions, sections(1), Progress(memory.size))
    assert resident() - before < 8 << 20
    memory.close()


def test_holes_of_shared_memory_stay_holes(tmp_path: Path) -> None:
    fd = os.memfd_create("ram")
    os.truncate(fd, 64 << 20)
    os.pwrite(fd, b"x", 5 * CHUNK)
    memory = map_regions(SharedRegion, fd, 64 << 20, shared=True)
    blocks = os.fstat(fd).st_blocks
    write_snapshot(str(tmp_path / "s"), memory.regions, [], Progress(memory.size))
    assert os.fstat(fd).st_blocks < blocks + (CHUNK // 512)
    memory.close()
    os.close(fd)
    assert (tmp_path / "s/memory").stat().st_blocks * 512 <= 16 * PAGE


def test_a_restored_machine_saves_what_it_changed_and_what_it_did_not(tmp_path: Path) -> None:
    write(tmp_path / "s", 1)
    with open_snapshot(str(tmp_path / "s")) as snapshot:
        memory = map_template(snapshot.memory_fd, snapshot.memory_size)
    memory.write(CHUNK + 5, b"changed")
    memory.discard(2 * CHUNK, CHUNK)
    expected = memory.read(0, SIZE)
    write_snapshot(str(tmp_path / "s"), memory.regions, sections(2), Progress(SIZE))
    memory.close()
    assert (tmp_path / "s/memory").read_bytes()[:SIZE] == expected
    assert expected[2 * CHUNK : 3 * CHUNK] == bytes(CHUNK)
    assert expected[3 * CHUNK :] == contents(1)[3 * CHUNK :]


def test_zeros_that_the_guest_wrote_take_no_space(tmp_path: Path) -> None:
    memory = GuestMemory.allocate(8 << 20)
    memory.write(0, bytes(8 << 20))
    progress = Progress(memory.size)
    write_snapshot(str(tmp_path / "s"), memory.regions, sections(1), progress)
    memory.close()
    assert progress.transferred == 0
    with open_snapshot(str(tmp_path / "s")) as snapshot:
        assert snapshot.image.checksums == zeros_checksum(CHUNK) * 4


def test_regions_lie_one_after_the_other(tmp_path: Path) -> None:
    regions = [Region(gpa, CHUNK, Room(CHUNK)) for gpa in (0, 4 << 30)]
    for region, byte in zip(regions, b"ab", strict=True):
        region.bytes[0] = region.bytes[CHUNK - 1] = byte
    write_snapshot(str(tmp_path / "s"), regions, [], Progress(2 * CHUNK))
    for region in regions:
        region.close()
    data = (tmp_path / "s/memory").read_bytes()
    assert [data[position] for position in (0, CHUNK - 1, CHUNK, 2 * CHUNK - 1)] == list(b"aabb")


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    write(tmp_path / "s", 1)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("s", "s/memory", "s/state")}
    assert modes == {"s": 0o700, "s/memory": 0o600, "s/state": 0o600}


def test_progress_is_told_and_the_clock_stops(tmp_path: Path) -> None:
    progress = Progress(SIZE)
    assert (progress.total, progress.remaining, progress.transferred) == (SIZE, SIZE, 0)
    write(tmp_path / "s", 1, progress=progress)
    data = contents(1)
    filled = sum(any(data[at : at + PAGE]) for at in range(0, SIZE, PAGE)) * PAGE
    assert (progress.total, progress.remaining) == (SIZE, 0)
    assert filled <= progress.transferred <= (tmp_path / "s/memory").stat().st_blocks * 512
    assert progress.ended is not None
    assert progress.total_time == progress.total_time == int((progress.ended - progress.started) * 1000)


class CancelledAt(Progress):
    """Cancels itself when so many bytes were looked at."""

    def __init__(self, seen: int) -> None:
        super().__init__(SIZE)
        self.seen = seen

    def check(self) -> None:
        if self.total - self.remaining >= self.seen:
            self.cancel()
        super().check()


@pytest.mark.parametrize("seen", [0, CHUNK, 3 * CHUNK, SIZE])
@pytest.mark.parametrize("old", [False, True])
def test_a_cancelled_snapshot_leaves_what_was_there(tmp_path: Path, seen: int, old: bool) -> None:
    if old:
        write(tmp_path / "s", 1)
    progress = CancelledAt(seen)
    with pytest.raises(SnapshotCancelled):
        write(tmp_path / "s", 2, progress=progress)
    assert progress.ended is not None
    assert os.listdir(tmp_path) == ["s"] * old
    assert not old or generation_of(tmp_path / "s") == 1


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=f"^{tmp_path}/no: No such file or directory$"):
        write(tmp_path / "no/s", 1)


def test_a_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(SnapshotError, match=f"^{tmp_path}/s: Not a directory$"):
        write(tmp_path / "s", 1)
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": b"mine"},
        {"memory": b"mine", "state": b"stratovirt-state 1", "zzz": b""},
        {"memory": b"mine"},
        {"state": b"mine"},
        {"state": b""},
        {"memory": b"mine", "state": b"stratovirt-stat"},
    ],
)
def test_foreign_files_are_named_and_stay(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "s").mkdir()
    for name, data in files.items():
        (tmp_path / "s" / name).write_bytes(data)
    with pytest.raises(SnapshotError, match=f"^{tmp_path}/s: holds '.*', which is no part of a snapshot$"):
        write(tmp_path / "s", 1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == files
    assert os.listdir(tmp_path) == ["s"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / ".stratovirt-snapshot-0123456789abcdef"
    kept = tmp_path / ".stratovirt-snapshot-fedcba9876543210"
    other = tmp_path / ".stratovirt-snapshot-mine"
    for directory in (left, kept, other):
        directory.mkdir()
        (directory / "memory").write_bytes(b"half")
    (kept / "notes.txt").write_text("not ours")
    write(tmp_path / "s", 1)
    assert not left.exists()
    assert (kept / "notes.txt").read_text() == "not ours"
    assert (other / "memory").read_bytes() == b"half"

"""Raw images: what is written is read back, byte for byte, through the page cache and around it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import RawDisk, open_raw
from stratovirt.backends.disk.segments import behind, pieces, total
from stratovirt.errors import ConfigError

SIZE = 256 << 10
CONTENT = bytes(range(256)) * (SIZE // 256)
DIRECT = pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


@contextmanager
def opened(path: Path, options: DiskOptions) -> Iterator[RawDisk]:
    try:
        disk = open_raw(str(path), options)
    except ConfigError as error:
        if "no direct I/O" in str(error):
            pytest.skip(str(error))
        raise
    try:
        yield disk
    finally:
        disk.close()


def segments_of(*lengths: int, at: int = 0) -> list[memoryview]:
    """Views of these lengths, ``at`` bytes off any alignment."""
    return [memoryview(bytearray(at + length))[at:] for length in lengths]


def refusal(path: Path, options: DiskOptions) -> str:
    with pytest.raises(ConfigError) as caught:
        open_raw(str(path), options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@DIRECT
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    offset=st.integers(0, SIZE // 512 - 1),
    lengths=st.lists(st.integers(1, 70_000), max_size=6),
    at=st.integers(0, 3),
)
def test_any_segments_at_any_sector_are_written_and_read_in_their_order(
    image: Path, direct: bool, data: st.DataObject, offset: int, lengths: list[int], at: int
) -> None:
    image.write_bytes(CONTENT)
    offset *= 512
    segments = segments_of(*lengths, at=at)
    length = min(sum(lengths), SIZE - offset)
    segments = [part for part in next(iter(pieces(segments, length)), []) if length]
    for segment in segments:
        segment[:] = os.urandom(len(segment))
    expected = bytearray(CONTENT)
    expected[offset : offset + total(segments)] = b"".join(segments)
    with opened(image, DiskOptions(direct=direct)) as disk:
        disk.write(offset, segments)
        back = segments_of(*map(len, segments), at=at)
        disk.read(offset, back)
        assert b"".join(back) == b"".join(segments)
    assert image.read_bytes() == expected


@given(lengths=st.lists(st.integers(0, 20)), cut=st.integers(0, 100), most=st.integers(1, 30))
def test_segments_are_one_run_of_bytes_however_they_are_cut(lengths: list[int], cut: int, most: int) -> None:
    whole = bytes(range(256))[: sum(lengths)] if sum(lengths) < 256 else os.urandom(sum(lengths))
    segments, at = [], 0
    for length in lengths:
        segments.append(memoryview(whole)[at : at + length])
        at += length
    assert b"".join(behind(segments, cut)) == whole[cut:]
    runs = [b"".join(run) for run in pieces(segments, most)]
    assert b"".join(runs) == whole
    assert all(len(run) == most for run in runs[:-1])


@DIRECT
def test_an_image_that_has_become_shorter_is_an_error_and_no_endless_loop(image: Path, direct: bool) -> None:
    with opened(image, DiskOptions(direct=direct)) as disk:
        os.truncate(image, SIZE // 2)
        with pytest.raises(OSError, match="has become shorter"):
            disk.read(SIZE // 2 - 4096, segments_of(8192))


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_discard_gives_space_back_only_if_asked_for(image: Path) -> None:
    before = allocated(image)
    with opened(image, DiskOptions()) as disk:
        disk.discard(0, SIZE // 2)
        assert allocated(image) == before
        assert image.read_bytes() == CONTENT
    with opened(image, DiskOptions(discard=True)) as disk:
        disk.discard(0, SIZE // 2)
    assert allocated(image) <= before // 2
    assert image.read_bytes() == bytes(SIZE // 2) + CONTENT[SIZE // 2 :]


@pytest.mark.parametrize("can", [True, False], ids=["by the file system", "written out"])
@DIRECT
def test_zeroes_are_written_whatever_the_file_system_can(
    image: Path, monkeypatch: pytest.MonkeyPatch, direct: bool, can: bool
) -> None:
    with opened(image, DiskOptions(direct=direct, discard=True)) as disk:
        if not can:
            monkeypatch.setattr(disk._space, "zero", lambda *_, **__: False)
        disk.write_zeroes(512, 100 << 10, unmap=True)
        disk.write_zeroes(SIZE - 512, 512, unmap=False)
    expected = bytearray(CONTENT)
    expected[512 : 512 + (100 << 10)] = bytes(100 << 10)
    expected[SIZE - 512 :] = bytes(512)
    assert image.read_bytes() == expected


def test_written_zeroes_are_detected_where_asked_for(image: Path) -> None:
    before = allocated(image)
    with opened(image, DiskOptions(detect_zeroes="unmap", discard=True)) as disk:
        disk.write(0, segments_of(SIZE // 2))
        assert allocated(image) <= before // 2
        disk.write(0, [memoryview(b"x" * 512), *segments_of(SIZE // 2 - 512)])
    assert image.read_bytes() == b"x" * 512 + bytes(SIZE // 2 - 512) + CONTENT[SIZE // 2 :]


def test_a_last_part_of_a_sector_is_not_on_the_disk(image: Path) -> None:
    os.truncate(image, 1000)
    with opened(image, DiskOptions(read_only=True)) as disk:
        assert disk.size == 512


def test_direct_io_needs_whole_blocks(image: Path) -> None:
    os.truncate(image, 1000)
    assert re.search(
        "needs a size that is a multiple of|no direct I/O", refusal(image, DiskOptions(direct=True))
    )


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (lambda path: None, DiskOptions(), "No such file or directory"),
        (Path.mkdir, DiskOptions(), "Is a directory"),
        (Path.mkdir, DiskOptions(read_only=True), "is not a regular file or a block device"),
        (make_fifo, DiskOptions(), "is not a regular file or a block device"),
        (Path.touch, DiskOptions(host_device=True), "is not a block device"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object], options: DiskOptions, reason: str
) -> None:
    path = tmp_path / "image"
    make(path)
    assert refusal(path, options) == reason


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_without_permission_is_refused_by_name(image: Path) -> None:
    image.chmod(0o400)
    assert refusal(image, DiskOptions()) == "Permission denied"


@pytest.fixture
def loop_device(image: Path) -> Iterator[Path]:
    done = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no block device to be had: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@DIRECT
def test_a_block_device_is_a_disk_of_its_size(loop_device: Path, image: Path, direct: bool) -> None:
    with opened(loop_device, DiskOptions(host_device=True, direct=direct, discard=True)) as disk:
        assert disk.size == SIZE
        disk.write(4096, [memoryview(b"y" * 4096)])
        disk.discard(8192, 4096)
        disk.write_zeroes(0, 4096, unmap=True)
        disk.flush()
        back = segments_of(8192)
        disk.read(0, back)
        assert bytes(back[0]) == bytes(4096) + b"y" * 4096

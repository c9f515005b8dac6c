"""What is no whole snapshot is refused, in words that name the file and what differs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.errors import SnapshotError
from stratovirt.migration.image import TRAILER_SIZE
from stratovirt.migration.reader import open_snapshot
from stratovirt.vmstate import Section, decode, encode
from tests.migration.samples import PAGE, SIZE, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "snapshot"
    write(directory, 1)
    return directory


@pytest.fixture
def snapshot(whole: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "snapshot"))


def refusal(directory: Path) -> str:
    with pytest.raises(SnapshotError) as refused:
        open_snapshot(str(directory)).close()
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(str(directory), "DIR")


@pytest.mark.parametrize("name", ["state", "memory"])
def test_a_missing_file_is_named(snapshot: Path, name: str) -> None:
    (snapshot / name).unlink()
    assert refusal(snapshot) == f"DIR/{name}: No such file or directory"


@pytest.mark.parametrize("name", ["state", "memory"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting(
    snapshot: Path, name: str, make: Callable[[Path], None]
) -> None:
    (snapshot / name).unlink()
    make(snapshot / name)
    assert refusal(snapshot) == f"DIR/{name}: not a regular file"


def test_a_missing_directory_or_a_file_is_refused(snapshot: Path) -> None:
    assert refusal(snapshot / "no") == "DIR: No such file or directory"
    assert refusal(snapshot / "state") == "DIR: Not a directory"


@pytest.mark.parametrize("change", [-SIZE, -PAGE, -1, 1, PAGE])
def test_memory_of_another_size_is_refused_with_both(snapshot: Path, change: int) -> None:
    right = SIZE + TRAILER_SIZE
    os.truncate(snapshot / "memory", right + change)
    assert refusal(snapshot) == f"DIR/memory: has {right + change} bytes; its state is of one with {right}"


def test_memory_of_another_snapshot_is_refused(snapshot: Path) -> None:
    write(snapshot.parent / "other", 1)
    shutil.copy(snapshot.parent / "other/memory", snapshot / "memory")
    assert refusal(snapshot).startswith("DIR/memory: ends with 'stratovirt-memory ")
    assert "; its state is of one with 'stratovirt-memory " in refusal(snapshot)


def test_memory_without_its_last_page_is_refused(snapshot: Path) -> None:
    with (snapshot / "memory").open("r+b") as file:
        file.seek(SIZE)
        file.write(bytes(TRAILER_SIZE))
    assert refusal(snapshot).startswith("DIR/memory: ends with ''; its state is of one with 'stratovirt-mem")


@given(data=st.data())
def test_a_changed_byte_of_state_is_refused(whole: Path, data: st.DataObject) -> None:
    state = bytearray((whole / "state").read_bytes())
    position = data.draw(st.integers(0, len(state) - 1))
    state[position] ^= data.draw(st.integers(1, 255))
    assert refused_state(whole, bytes(state)).startswith("DIR/state: ")


@given(data=st.data())
def test_a_cut_state_is_refused(whole: Path, data: st.DataObject) -> None:
    state = (whole / "state").read_bytes()
    cut = state[: data.draw(st.integers(0, len(state) - 1))]
    assert refused_state(whole, cut).startswith("DIR/state: ")


def refused_state(whole: Path, state: bytes) -> str:
    """How ``state`` beside the memory of ``whole`` is refused."""
    directory = whole.parent / "damaged"
    directory.mkdir(exist_ok=True)
    (directory / "state").write_bytes(state)
    if not (directory / "memory").exists():
        os.link(whole / "memory", directory / "memory")
    return refusal(directory)


def memory_section(whole: Path) -> dict[str, Any]:
    return decode((whole / "state").read_bytes())[-1].state


JUNK = st.none() | st.booleans() | st.integers(-2, 2**70) | st.text(max_size=80) | st.binary(max_size=80)


@given(data=st.data())
def test_any_other_description_of_memory_is_refused(whole: Path, data: st.DataObject) -> None:
    """Even where its checksum is right."""
    right = memory_section(whole)
    wrong = {**right, data.draw(st.sampled_from(sorted(right))): data.draw(JUNK)}
    if data.draw(st.booleans()):
        del wrong[data.draw(st.sampled_from(sorted(wrong)))]
    assert refused_state(whole, encode([Section("memory", 1, wrong)])).startswith("DIR/")


def test_another_version_of_the_description_is_named(whole: Path) -> None:
    state = encode([Section("memory", 7, memory_section(whole))])
    assert refused_state(whole, state) == "DIR/state: section memory has version 7; known is 1"


@pytest.mark.parametrize("count", [0, 2])
def test_memory_is_described_once(whole: Path, count: int) -> None:
    state = encode([Section("memory", 1, memory_section(whole))] * count)
    assert refused_state(whole, state) == f"DIR/state: has {count} sections 'memory', not one"

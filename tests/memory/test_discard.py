"""Discarded guest memory reads zero, goes back to the host, and a template never changes."""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratovirt.memory import BadAddress, GuestMemory
from stratovirt.memory.template import map_template

PAGE = mmap.PAGESIZE
MIB = 1 << 20


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(b"\xa5" * MIB)
    return path


@pytest.fixture(params=["anonymous", "template"])
def memory(request: pytest.FixtureRequest, template: Path) -> Iterator[GuestMemory]:
    if request.param == "anonymous":
        memory = GuestMemory.allocate(MIB)
        memory.write(0, b"\xa5" * MIB)
    else:
        with template.open("rb") as file:
            memory = map_template(file.fileno(), MIB)
    yield memory
    memory.close()


def test_discarded_pages_read_zero_and_can_be_written_again(memory: GuestMemory) -> None:
    memory.discard(2 * PAGE, 3 * PAGE)
    assert memory.read(2 * PAGE, 3 * PAGE) == bytes(3 * PAGE)
    memory.write(3 * PAGE, b"again")
    assert memory.read(3 * PAGE, 5) == b"again"


def test_the_pages_around_stay(memory: GuestMemory) -> None:
    memory.discard(2 * PAGE, PAGE)
    assert memory.read(2 * PAGE - 1, 1) == memory.read(3 * PAGE, 1) == b"\xa5"


@pytest.mark.parametrize(("gpa", "length"), [(1, PAGE), (0, PAGE - 1), (PAGE - 1, 2), (5, 0)])
def test_a_page_not_wholly_in_the_range_is_left_alone(memory: GuestMemory, gpa: int, length: int) -> None:
    memory.discard(gpa, length)
    assert memory.read(0, 2 * PAGE) == b"\xa5" * 2 * PAGE


@pytest.mark.parametrize(
    ("gpa", "length"), [(-PAGE, PAGE), (MIB, PAGE), (0, MIB + PAGE), (0, -1), (1 << 63, 1)]
)
def test_a_range_outside_ram_is_refused(memory: GuestMemory, gpa: int, length: int) -> None:
    with pytest.raises(BadAddress):
        memory.discard(gpa, length)


def test_translated_code_of_discarded_pages_is_told_of(memory: GuestMemory) -> None:
    told: list[tuple[int, int]] = []
    memory.written = lambda gpa, length: told.append((gpa, length))
    memory.discard(PAGE - 1, 2 * PAGE)
    assert told == [(PAGE, PAGE)]


def test_clear_zeroes_all_of_ram(memory: GuestMemory) -> None:
    memory.clear()
    assert memory.read(0, MIB) == bytes(MIB)


def test_a_template_is_not_changed_by_writes_discards_or_clearing(template: Path) -> None:
    before = hashlib.sha256(template.read_bytes()).digest()
    template.chmod(0o444)
    with template.open("rb") as file:
        memory = map_template(file.fileno(), MIB)
    memory.write(0, b"written")
    memory.discard(PAGE, PAGE)
    memory.clear()
    memory.close()
    assert hashlib.sha256(template.read_bytes()).digest() == before


def test_discarded_pages_are_resident_no_more() -> None:
    memory = GuestMemory.allocate(64 * MIB)
    memory.write(0, b"x" * 64 * MIB)
    before = _resident()
    memory.discard(0, 64 * MIB)
    assert before - _resident() > 50 * MIB
    memory.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

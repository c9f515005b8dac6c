"""``stratovirt-snapshot info`` shows what is in a snapshot, and tells a damaged one from an intact one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from stratovirt.migration.image import CHUNK
from stratovirt.migration.progress import Progress
from stratovirt.migration.writer import write_snapshot
from stratovirt.tools.snapshot import main
from stratovirt.vmstate import Section
from tests.migration.samples import SIZE, guest

MACHINE = {
    "saved-at": "2026-11-28T14:00:00Z",
    "accelerator": "tcg",
    "vcpus": 2,
    "cpu": {"vendor": "GenuineIntel", "features": ["sse", "sse2"]},
    "token": b"\xab",
    "devices": [{"name": "virtio0", "queues": [256, 64]}, {"name": "virtio1", "queues": []}],
    "memory": 7,
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    directory = tmp_path / "snapshot"
    with guest(b"x" * (SIZE - CHUNK) + bytes(CHUNK)) as memory:
        sections = [Section("machine", 1, MACHINE), Section("uart", 3, {}), Section("virtio0", 2, {})]
        write_snapshot(str(directory), memory.regions, sections, Progress(SIZE))
    return directory


def flip(snapshot: Path, position: int) -> None:
    with (snapshot / "memory").open("r+b") as file:
        file.seek(position)
        file.write(b"y")


def test_the_table_says_what_is_inside(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(snapshot)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = [tuple(line.split("  ", 1)) for line in shown.out.splitlines()]
    assert [(key, text.strip()) for key, text in rows] == [
        ("snapshot", str(snapshot)),
        ("format", "1"),
        ("saved-at", "2026-11-28T14:00:00Z"),
        ("accelerator", "tcg"),
        ("vcpus", "2"),
        ("cpu vendor", "GenuineIntel"),
        ("cpu features", "sse sse2"),
        ("token", "ab"),
        ("devices", "name=virtio0, queues=256 64"),
        ("devices", "name=virtio1, queues="),
        ("sections", "machine 1, uart 3, virtio0 2"),
        ("memory", "6.0 MiB, of which 4.0 MiB are stored"),
        ("contents", "intact"),
    ]


def test_json_has_the_same(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", str(snapshot)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["format"] == 1
    assert shown["machine"] == {**MACHINE, "token": "ab"}
    assert shown["sections"] == {"machine": 1, "uart": 3, "virtio0": 2}
    assert shown["memory"]["size"] == SIZE
    assert abs(shown["memory"]["used"] - (SIZE - CHUNK)) < 64 << 10
    assert shown["memory"]["damaged"] == []


def test_damage_is_an_exit_code_and_a_line_that_says_where(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(snapshot, 5)
    flip(snapshot, SIZE - 1)
    assert main(["info", str(snapshot)]) == 1
    shown = capsys.readouterr()
    ranges = f"0x0-0x1fffff, {3 * CHUNK:#x}-{SIZE - 1:#x}"
    assert shown.err == f"stratovirt-snapshot: {snapshot}/memory: damaged: {ranges}\n"
    assert shown.out.endswith(f"contents      damaged: {ranges}\n")


@pytest.mark.parametrize(
    ("path", "problem"), [("no", "No such file or directory"), ("snapshot/state", "Not a directory")]
)
def test_what_is_no_snapshot_is_named(
    snapshot: Path, path: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = snapshot.parent / path
    assert main(["info", str(directory)]) == 1
    assert capsys.readouterr().err == f"stratovirt-snapshot: {directory}: {problem}\n"


def test_a_terminal_is_shown_how_far_it_is(snapshot: Path) -> None:
    terminal, other = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "stratovirt.tools.snapshot", "info", str(snapshot)],
        stdout=subprocess.PIPE,
        stderr=other,
        timeout=60,
        check=False,
    )
    os.close(other)
    seen = os.read(terminal, 4096)
    os.close(terminal)
    assert done.returncode == 0
    assert b"verifying memory: 100 %" in seen
    assert seen.endswith(b"\r\x1b[K")

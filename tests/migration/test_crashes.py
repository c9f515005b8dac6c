"""Whenever a writer is killed, the directory is the whole old snapshot or the whole new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stratovirt.migration import directory as replaced
from tests.migration.samples import assert_clean, generation_of, write

KILLS = 20
"""Two hundred in tests/soak."""


def crashes(*arguments: object) -> list[int]:
    command = [sys.executable, "-m", "tests.migration.crashes", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True)
    return [int(word) for word in done.stdout.split()]


def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    left = crashes("kills", tmp_path / "snapshot", KILLS, 1)
    assert len(left) == KILLS
    assert left == sorted(left)
    write(tmp_path / "snapshot", 1)
    assert generation_of(tmp_path / "snapshot") == 1
    assert_clean(tmp_path)


def test_a_writer_that_dies_before_any_of_its_steps_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    left = crashes("steps", tmp_path / "snapshot")
    olds, news = left.count(1), left.count(2)
    assert left == [1] * olds + [2] * news
    assert olds > 10
    assert news > 5  # syncing the parent, removing the old one, and not dying at all


def test_nothing_is_exchanged_before_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "snapshot", 1)
    steps: list[str] = []
    sync, exchange = os.fsync, replaced._renameat2

    def synced(fd: int) -> None:
        sync(fd)
        steps.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))

    def exchanged(*arguments: object) -> int:
        steps.append("exchange")
        return int(exchange(*arguments))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(replaced, "_renameat2", exchanged)
    write(tmp_path / "snapshot", 2)
    sibling = steps[0].partition("/")[0]
    assert steps == [f"{sibling}/memory", f"{sibling}/state", sibling, "exchange", "."]

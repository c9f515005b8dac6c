"""What the host refuses is named; the snapshot that was there is still there, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratovirt.errors import SnapshotError
from stratovirt.migration.reader import open_snapshot
from tests.migration.samples import write
from tests.migration.small_disk import CASES

PROBLEMS = {
    "no room for memory": "/s/memory: No space left on device",
    "no room for state": "/s/state: No space left on device",
    "read-only": ": Read-only file system",
    "file size limit": "/s/memory: File too large",
    "mount point": "/s: it is a mount point, which cannot be replaced; name a directory in it",
}


@pytest.mark.parametrize("case", CASES)
def test_a_disk_that_cannot_hold_it_is_named_and_the_old_one_stays(tmp_path: Path, case: str) -> None:
    command = ["unshare", "-Urm", sys.executable, "-m", "tests.migration.small_disk", case, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    expected = {"refused": f"{tmp_path}{PROBLEMS[case]}", "left": 1, "names": ["s"]}
    assert json.loads(done.stdout) == expected


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere, so it is nobody for a while."""
    uid = os.geteuid()
    os.seteuid(65534 if uid == 0 else uid)
    yield
    os.seteuid(uid)


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory that everybody sees and nobody may write to."""
    with tempfile.TemporaryDirectory(prefix="stratovirt-test-") as directory:
        os.chmod(directory, 0o555)
        yield Path(directory)
        os.chmod(directory, 0o755)


def test_a_parent_that_may_not_be_written_to_is_named(parent: Path) -> None:
    with unprivileged(), pytest.raises(SnapshotError, match=f"^{parent}: Permission denied$"):
        write(parent / "s", 1)
    assert os.listdir(parent) == []


def test_a_snapshot_that_may_not_be_read_is_named(parent: Path) -> None:
    os.chmod(parent, 0o755)
    write(parent / "s", 1)
    (parent / "s").chmod(0o755)
    (parent / "s/state").chmod(0)
    with unprivileged(), pytest.raises(SnapshotError, match=f"^{parent}/s/state: Permission denied$"):
        open_snapshot(str(parent / "s"))

"""A script: ``unshare -Urm python -m tests.migration.small_disk CASE DIR``, in a mount namespace of its own.

Mounts a small file system on DIR, writes a snapshot there, and prints how the next is refused and what is
there afterwards, as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stratovirt.errors import SnapshotError
from stratovirt.migration.progress import Progress
from stratovirt.migration.writer import write_snapshot
from stratovirt.vmstate import Section
from tests.migration.samples import SIZE, contents, generation_of, guest, sections, write

MIB = 1 << 20
# An image takes 1.9 MiB: so there is room for one; for two, but not for a long state beside them; for all.
ONE, TWO, PLENTY = 3 * MIB, 9 * MIB // 2, 64 * MIB


def no_room_for_memory(parent: Path) -> None:
    write(parent / "s", 2)


def no_room_for_state(parent: Path) -> None:
    with guest(contents(2)) as memory:
        more = [*sections(2), Section("large", 1, {"data": "x" * MIB})]
        write_snapshot(str(parent / "s"), memory.regions, more, Progress(SIZE))


def read_only(parent: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", parent], check=True)
    write(parent / "s", 2)


def file_size_limit(parent: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, SIZE - 1))
    write(parent / "s", 2)


def mount_point(parent: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", parent / "s"], check=True)
    try:
        write(parent / "s", 2)
    finally:
        subprocess.run(["umount", parent / "s"], check=True)


CASES: dict[str, tuple[int, Callable[[Path], None]]] = {
    "no room for memory": (ONE, no_room_for_memory),
    "no room for state": (TWO, no_room_for_state),
    "read-only": (PLENTY, read_only),
    "file size limit": (PLENTY, file_size_limit),
    "mount point": (PLENTY, mount_point),
}


def main(case: str, directory: str) -> None:
    size, attempt = CASES[case]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], check=True)
    parent = Path(directory)
    write(parent / "s", 1)
    refused = None
    try:
        attempt(parent)
    except SnapshotError as error:
        refused = str(error)
    print(json.dumps({"refused": refused, "left": generation_of(parent / "s"), "names": os.listdir(parent)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

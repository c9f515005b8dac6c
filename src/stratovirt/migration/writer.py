"""Taking a snapshot: both files into a new directory, which then replaces the old one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stratovirt.memory import Region
from stratovirt.migration.directory import MEMORY, STATE, replacement
from stratovirt.migration.image import write_image
from stratovirt.migration.naming import blaming
from stratovirt.migration.progress import Progress
from stratovirt.vmstate import Section, encode


def write_snapshot(
    directory: str, regions: Sequence[Region], sections: Sequence[Section], progress: Progress
) -> None:
    """Write ``directory``, or replace the snapshot in it, while nothing runs on ``regions``. Blocks.

    :param directory: made if it is missing; its parent must exist.
    :param sections: of everything but guest RAM.
    :raises SnapshotError: the host refuses, or ``directory`` holds something else; it is as it was.
    :raises SnapshotCancelled: ``progress`` was cancelled; ``directory`` is as it was.
    """
    try:
        with replacement(directory) as parent:
            with _file(parent, directory, MEMORY) as fd:
                image = write_image(fd, regions, str(uuid.uuid4()), progress)
            with _file(parent, directory, STATE) as fd, open(fd, "wb", closefd=False) as state:
                state.write(encode([*sections, image.section()]))
                state.flush()
                os.fsync(fd)
            progress.check()
    finally:
        progress.end()


@contextmanager
def _file(parent: int, directory: str, name: str) -> Iterator[int]:
    """A new file in the directory ``parent``, which will be ``directory``."""
    with blaming(os.path.join(directory, name)):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            yield fd
        finally:
            os.close(fd)

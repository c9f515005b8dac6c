"""Opening a snapshot: what does not fit together is refused by name, before anything is made of it.

The law: the contents of guest RAM are not looked at, so opening takes no longer for more of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from stratovirt.errors import SnapshotError
from stratovirt.migration.directory import MEMORY, STATE
from stratovirt.migration.image import SECTION, TRAILER_SIZE, Image
from stratovirt.migration.naming import blaming
from stratovirt.vmstate import Section, decode

MAX_STATE = 256 << 20
"""Bytes of ``state`` that are read; the checksums of 1 TiB of RAM take 11 MiB, all devices less."""


@dataclass(frozen=True)
class Snapshot:
    """An open snapshot; closed by ``with`` or :meth:`close`.

    :ivar sections: in the order saved, without that of guest RAM.
    :ivar image: what ``state`` says about guest RAM.
    :ivar memory_fd: open for reading; RAM begins at 0.
    """

    sections: Sequence[Section]
    image: Image
    memory_fd: int

    @property
    def memory_size(self) -> int:
        """Bytes of guest RAM."""
        return self.image.size

    def close(self) -> None:
        """Close the file; what was mapped of it stays."""
        os.close(self.memory_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_how: object) -> None:
        self.close()


def open_snapshot(directory: str) -> Snapshot:
    """Open the snapshot in ``directory``; while it is being replaced, the old one or the new one.

    :raises SnapshotError: there is none, or its files are damaged or not of one snapshot; the text starts
        with the path and says what differs.
    """
    while True:
        with blaming(directory):
            parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open_in(parent, directory)
        except SnapshotError:
            if not _is_replaced(parent, directory):
                raise
        finally:
            os.close(parent)


def _is_replaced(parent: int, directory: str) -> bool:
    """Is ``parent`` the old directory, whose files are being removed?"""
    with blaming(directory):
        return not os.path.samestat(os.fstat(parent), os.stat(directory))


def _open_in(parent: int, directory: str) -> Snapshot:
    with ExitStack() as opened:
        with blaming(os.path.join(directory, STATE)):
            with open(_open(parent, STATE), "rb") as file:
                data = file.read(MAX_STATE + 1)
            image, sections = _parted(data)
        with blaming(os.path.join(directory, MEMORY)):
            fd = _open(parent, MEMORY)
            opened.callback(os.close, fd)
            _check_memory(fd, image)
        opened.pop_all()
    return Snapshot(sections, image, fd)


def _open(parent: int, name: str) -> int:
    """One of the files, whatever else may stand in its place."""
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SnapshotError("not a regular file")
    return fd


def _parted(data: bytes) -> tuple[Image, list[Section]]:
    """What the file ``state`` says about guest RAM, and its other sections."""
    if len(data) > MAX_STATE:
        raise SnapshotError(f"longer than the {MAX_STATE >> 20} MiB that a state has at most")
    sections = decode(data)
    images = [section for section in sections if section.name == SECTION]
    if len(images) != 1:
        raise SnapshotError(f"has {len(images)} sections {SECTION!r}, not one")
    return Image.from_section(images[0]), [section for section in sections if section.name != SECTION]


def _check_memory(fd: int, image: Image) -> None:
    size, expected = os.fstat(fd).st_size, image.size + TRAILER_SIZE
    if size != expected:
        raise SnapshotError(f"has {size} bytes; its state is of one with {expected}")
    trailer = os.pread(fd, TRAILER_SIZE, image.size)
    if trailer != image.trailer:
        raise SnapshotError(
            f"ends with {_first_line(trailer)!r}; its state is of one with {_first_line(image.trailer)!r}"
        )


def _first_line(data: bytes) -> str:
    return data[:100].split(b"\n")[0].rstrip(b"\0").decode(errors="replace")

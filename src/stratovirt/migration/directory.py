"""A directory that is replaced as a whole: filled beside the old one, then exchanged with it in one step.

The law: whatever dies at whatever moment, the directory is the whole old one or the whole new one. Only
files of a snapshot are ever removed, and only from directories that this module made or replaces.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stratovirt.errors import SnapshotError
from stratovirt.migration.naming import blaming

STATE, MEMORY = "state", "memory"
STATE_MAGIC = b"stratovirt-state "

_SIBLING = ".stratovirt-snapshot-"
_SIBLING_NAME = re.compile(r"\.stratovirt-snapshot-[0-9a-f]{16}")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# renameat2(2), <fcntl.h>.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


@contextmanager
def replacement(directory: str) -> Iterator[int]:
    """A new, empty directory, as a descriptor; it becomes ``directory`` if the ``with`` block succeeds.

    The files in it are to be synced by who writes them. What killed runs have left beside ``directory`` is
    removed first.

    :raises SnapshotError: ``directory`` holds something else than a snapshot, or the host refuses.
    """
    target = os.path.realpath(directory)
    parent = os.path.dirname(target)
    _check_replaceable(target)
    with blaming(parent):
        _remove_leftovers(parent)
        sibling, fd = _make_sibling(parent)
    try:
        yield fd
        with blaming(target):
            os.fsync(fd)
            _put_in_place(sibling, target)
            _sync_directory(parent)
    finally:
        os.close(fd)
        _remove(sibling)  # by now the old snapshot, if all went well


def _check_replaceable(target: str) -> None:
    """Refuse what is neither empty nor a snapshot."""
    with blaming(target):
        try:
            names = sorted(os.listdir(target))
        except FileNotFoundError:
            return
        if os.path.ismount(target):
            raise OSError(
                errno.EBUSY, "it is a mount point, which cannot be replaced; name a directory in it"
            )
        foreign = [name for name in names if name not in (STATE, MEMORY)]
        if names and not foreign and not _is_state(os.path.join(target, STATE)):
            foreign = names
        if foreign:
            raise SnapshotError(f"holds {foreign[0]!r}, which is no part of a snapshot")


def _is_state(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(STATE_MAGIC)) == STATE_MAGIC


def _make_sibling(parent: str) -> tuple[str, int]:
    """A new directory and its descriptor, locked: nobody takes it for a leftover while we live."""
    while True:
        path = os.path.join(parent, _SIBLING + secrets.token_hex(8))
        os.mkdir(path, 0o700)
        with suppress(FileNotFoundError):  # taken for a leftover before it was locked
            fd = os.open(path, _OPEN_DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.exists(path):
                return path, fd
            os.close(fd)


def _remove_leftovers(parent: str) -> None:
    for name in os.listdir(parent):
        if _SIBLING_NAME.fullmatch(name):
            _remove(os.path.join(parent, name))


def _remove(path: str) -> None:
    """Remove one of our directories, as far as it can be, unless its writer lives."""
    with suppress(OSError):
        fd = os.open(path, _OPEN_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (STATE, MEMORY):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=fd)
            os.rmdir(path)
        finally:
            os.close(fd)


def _put_in_place(sibling: str, target: str) -> None:
    if not os.path.lexists(target):
        os.rename(sibling, target)
    elif _renameat2(_AT_FDCWD, os.fsencode(sibling), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _sync_directory(path: str) -> None:
    fd = os.open(path, _OPEN_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""The locks by which programs keep off each other's images, QEMU's way (block/file-posix.c).

An open image is locked by its open file description (fcntl(2), F_OFD_SETLK): a shared lock on one byte per
permission that is used, from byte 100 on, and on one byte per permission that others may not have, from byte
200 on. The bytes need not exist. Whoever opens an image looks whether somebody forbids what it wants, or uses
what it forbids. Disks of a machine forbid writing to everybody else, as QEMU's do.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct

log = logging.getLogger(__name__)

# struct flock: type, whence, start, length, pid (0 for OFD locks).
_FLOCK = struct.Struct("hhqqi4x")

USED, FORBIDDEN = 100, 200
"""RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE."""
READ, WRITE = 0, 1
"""Bit numbers of BLK_PERM_CONSISTENT_READ and BLK_PERM_WRITE (include/block/block-common.h)."""


class ImageInUse(Exception):
    """Another program has the image open; the text says how."""


def lock_image(fd: int, *, writable: bool) -> None:
    """Lock the image open as ``fd`` until ``fd`` is closed, with all its duplicates.

    A file system that knows no such locks is warned about.

    :raises ImageInUse: somebody else holds it in a way that excludes this one.
    """
    used = [READ, WRITE] if writable else [READ]
    try:
        for permission in used:
            _share(fd, USED + permission)
        _share(fd, FORBIDDEN + WRITE)
        for permission in used:
            if _is_held(fd, FORBIDDEN + permission):
                raise ImageInUse("in use by another program, which lets nobody else write")
        if _is_held(fd, USED + WRITE):
            raise ImageInUse("in use by another program, which writes to it")
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        log.warning("%s: not locked: %s", os.readlink(f"/proc/self/fd/{fd}"), error.strerror)


def _share(fd: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))


def _is_held(fd: int, byte: int) -> bool:
    """By another open file description?"""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    answer: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return answer != fcntl.F_UNLCK

"""Giving space of a file or block device back, and making ranges read zero.

The law: what the host cannot do by itself is written out as zeroes; a discard that it cannot do is none.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct

# fallocate(2).
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
# <linux/fs.h>: each takes the range as two 64-bit numbers.
BLKDISCARD, BLKZEROOUT = 0x1277, 0x127F
BLKGETSIZE64 = 0x8008_1272

_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)
ZEROES = memoryview(mmap.mmap(-1, 64 << 10, prot=mmap.PROT_READ))
"""Aligned, as direct I/O wants it."""

# CDLL gives up the GIL: punching holes takes as long as the file system likes.
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class FileSpace:
    """Of a regular file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def discard(self, offset: int, length: int) -> None:
        """Give the range back, if the file system can."""
        self._allocate(_PUNCH_HOLE | _KEEP_SIZE, offset, length)

    def zero(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Make the range read zero; False: the file system cannot."""
        mode = _PUNCH_HOLE if unmap else _ZERO_RANGE
        return self._allocate(mode | _KEEP_SIZE, offset, length)

    def _allocate(self, mode: int, offset: int, length: int) -> bool:
        while _fallocate(self._fd, mode, offset, length) != 0:
            error = ctypes.get_errno()
            if error in _NOT_SUPPORTED:
                return False
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))
        return True


class DeviceSpace:
    """Of a block device."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def discard(self, offset: int, length: int) -> None:
        """Give the range back, if the device can."""
        self._control(BLKDISCARD, offset, length)

    def zero(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Make the range read zero; False: the device cannot. It decides itself whether to unmap."""
        return self._control(BLKZEROOUT, offset, length)

    def _control(self, request: int, offset: int, length: int) -> bool:
        try:
            fcntl.ioctl(self._fd, request, struct.pack("QQ", offset, length))
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            return False
        return True


def is_zero(segment: memoryview) -> bool:
    """Does ``segment`` hold nothing but zeroes?"""
    return all(
        part.tobytes() == ZEROES[: len(part)].tobytes()
        for part in (segment[at : at + len(ZEROES)] for at in range(0, len(segment), len(ZEROES)))
    )

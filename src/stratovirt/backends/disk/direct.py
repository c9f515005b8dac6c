"""How bytes get into and out of an open file: through the page cache, or around it (O_DIRECT).

The law: a request is done whole or raises. The kernel may do it in parts; an end of file in it is an error.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Sequence

from stratovirt.backends.disk.segments import behind, pieces, total

ALIGNMENTS = (512, 1024, 2048, 4096)
"""What a device or file system may ask of direct I/O; QEMU tries the same (raw_probe_alignment)."""
BOUNCE = 1 << 20
"""Bytes moved at once where the guest's buffers are not aligned; Linux's requests are as long."""

Transfer = Callable[[int, Sequence[memoryview], int], int]


class BufferedIo:
    """Reads and writes of ``fd`` that the host may cache."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Fill ``segments`` from ``offset`` on."""
        _whole(os.preadv, self._fd, segments, offset)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Store ``segments`` at ``offset``."""
        _whole(os.pwritev, self._fd, segments, offset)


class DirectIo:
    """Reads and writes of ``fd``, which is open with O_DIRECT.

    What the kernel refuses for its alignment goes through an aligned buffer. Only one thread may call.

    :raises OSError: direct I/O does not work on this file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = memoryview(mmap.mmap(-1, BOUNCE))
        self.alignment = self._probe()

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Fill ``segments`` from ``offset`` on."""
        try:
            _whole(os.preadv, self._fd, segments, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._read_bounced(offset, segments)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Store ``segments`` at ``offset``."""
        try:
            _whole(os.pwritev, self._fd, segments, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._write_bounced(offset, segments)

    def _probe(self) -> int:
        for alignment in ALIGNMENTS:
            try:
                os.preadv(self._fd, [self._buffer[:alignment]], alignment)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return alignment
        raise OSError(errno.EINVAL, "direct I/O does not work here")

    def _read_bounced(self, offset: int, segments: Sequence[memoryview]) -> None:
        for piece in pieces(segments, BOUNCE - 2 * self.alignment):
            window, start, before = self._window(offset, total(piece))
            _whole(os.preadv, self._fd, [window], start)
            for segment in piece:
                segment[:] = window[before : before + len(segment)]
                before += len(segment)
            offset += total(piece)

    def _write_bounced(self, offset: int, segments: Sequence[memoryview]) -> None:
        for piece in pieces(segments, BOUNCE - 2 * self.alignment):
            window, start, before = self._window(offset, total(piece))
            if len(window) != total(piece):  # blocks that are written in part
                _whole(os.preadv, self._fd, [window], start)
            for segment in piece:
                window[before : before + len(segment)] = segment
                before += len(segment)
            _whole(os.pwritev, self._fd, [window], start)
            offset += total(piece)

    def _window(self, offset: int, length: int) -> tuple[memoryview, int, int]:
        """An aligned buffer around a range, where in the file it begins, and where in it the range does."""
        before = offset % self.alignment
        start = offset - before
        end = -(-(offset + length) // self.alignment) * self.alignment
        return self._buffer[: end - start], start, before


def _whole(transfer: Transfer, fd: int, segments: Sequence[memoryview], offset: int) -> None:
    """Transfer all of ``segments``.

    :raises OSError: the host refuses, or the file has become shorter.
    """
    left = total(segments)
    done = transfer(fd, segments, offset)
    while done != left:
        if done == 0:
            raise OSError(errno.EIO, "the image has become shorter")
        segments, offset, left = behind(segments, done), offset + done, left - done
        done = transfer(fd, segments, offset)

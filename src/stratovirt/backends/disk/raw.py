"""Raw images: a regular file or a block device of the host, byte by byte the guest's disk."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
from collections.abc import Sequence

from stratovirt.backends.disk.contract import SECTOR
from stratovirt.backends.disk.direct import BufferedIo, DirectIo
from stratovirt.backends.disk.locks import ImageInUse, lock_image
from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.segments import total
from stratovirt.backends.disk.space import BLKGETSIZE64, ZEROES, DeviceSpace, FileSpace, is_zero
from stratovirt.errors import ConfigError

log = logging.getLogger(__name__)

ZEROES_AT_ONCE = 256
"""Buffers of zeroes per system call: 16 MiB."""


class RawDisk:
    """Implements :class:`stratovirt.backends.disk.contract.Disk`.

    :param fd: the open image, owned by the disk from now on.
    """

    def __init__(
        self,
        fd: int,
        size: int,
        io: BufferedIo | DirectIo,
        space: FileSpace | DeviceSpace,
        options: DiskOptions,
    ) -> None:
        self.size = size
        self.read_only = options.read_only
        self.iops = options.iops
        self.file = fd if options.detect_zeroes == "off" else None
        self._fd = fd
        self._io = io
        self._space = space
        self._options = options

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """See :class:`Disk`."""
        self._io.read(offset, segments)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """See :class:`Disk`."""
        if self._options.detect_zeroes != "off" and all(map(is_zero, segments)):
            self.write_zeroes(offset, total(segments), unmap=self._options.detect_zeroes == "unmap")
        else:
            self._io.write(offset, segments)

    def flush(self) -> None:
        """See :class:`Disk`."""
        if not self._options.no_flush:
            os.fdatasync(self._fd)

    def discard(self, offset: int, length: int) -> None:
        """See :class:`Disk`."""
        if self._options.discard:
            self._space.discard(offset, length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """See :class:`Disk`."""
        if self._space.zero(offset, length, unmap=unmap and self._options.discard):
            return
        while length > 0:
            part = [ZEROES[:length]] * max(1, min(ZEROES_AT_ONCE, length // len(ZEROES)))
            self._io.write(offset, part)
            offset, length = offset + total(part), length - total(part)

    def interrupt(self) -> None:
        """Nothing can be done: the kernel finishes what it was asked for."""

    def close(self) -> None:
        """See :class:`Disk`."""
        os.close(self._fd)


def open_raw(filename: str, options: DiskOptions) -> RawDisk:
    """Open, check and lock an image.

    :raises ConfigError: it cannot be used; the text starts with ``filename``.
    """
    try:
        fd = _open(filename, options)
    except OSError as error:
        raise ConfigError(f"{filename}: {_reason(error, options)}") from error
    try:
        return _make(fd, filename, options)
    except (OSError, ImageInUse) as error:
        os.close(fd)
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{filename}: {reason}") from error
    except BaseException:
        os.close(fd)
        raise


def _open(filename: str, options: DiskOptions) -> int:
    """Nonblocking, for opening a FIFO would wait for its other end; on files and disks it does nothing."""
    flags = os.O_RDONLY if options.read_only else os.O_RDWR
    flags |= os.O_DIRECT if options.direct else 0
    return os.open(filename, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _reason(error: OSError, options: DiskOptions) -> str:
    if options.direct and error.errno == errno.EINVAL:
        return "direct=on: its file system knows no direct I/O"
    return os.strerror(error.errno or 0)


def _make(fd: int, filename: str, options: DiskOptions) -> RawDisk:
    mode = os.fstat(fd).st_mode
    is_device = stat.S_ISBLK(mode)
    if not is_device and (options.host_device or not stat.S_ISREG(mode)):
        wanted = "a block device" if options.host_device else "a regular file or a block device"
        raise ConfigError(f"{filename}: is not {wanted}")
    lock_image(fd, writable=not options.read_only)
    size = _device_size(fd) if is_device else os.fstat(fd).st_size
    io = DirectIo(fd) if options.direct else BufferedIo(fd)
    if isinstance(io, DirectIo) and size % io.alignment:
        raise ConfigError(
            f"{filename}: direct=on needs a size that is a multiple of {io.alignment} bytes here, not {size}"
        )
    if size % SECTOR:
        log.warning("%s: its last %d bytes are no whole sector and not on the disk", filename, size % SECTOR)
    space = DeviceSpace(fd) if is_device else FileSpace(fd)
    return RawDisk(fd, size - size % SECTOR, io, space, options)


def _device_size(fd: int) -> int:
    size: int = struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0]
    return size

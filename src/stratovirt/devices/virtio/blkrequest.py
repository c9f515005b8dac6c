"""Requests to a block device (virtio 1.2 §5.2.6): what a descriptor chain asks of a disk, and doing it.

The law: nothing reaches the disk that does not lie on it whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from stratovirt.backends.disk.contract import SECTOR, Disk
from stratovirt.devices.virtio.blkstats import BlockStats, Counter
from stratovirt.devices.virtio.queue import BrokenQueue, Chain, cut

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = b"\x00", b"\x01", b"\x02"

HEADER = struct.Struct("<I4xQ")  # type, sector
_RANGE = struct.Struct("<QII")  # sector, sectors, flags
_UNMAP = 1

MAX_RANGES = 1
"""In a discard or write-zeroes; QEMU's."""
MAX_RANGE_SECTORS = (1 << 31) // SECTOR - 1
"""In a range; QEMU's BDRV_REQUEST_MAX_SECTORS."""


class Refused(Exception):
    """No disk could carry the request out.

    :param status: for the driver.
    """

    def __init__(self, status: bytes) -> None:
        super().__init__()
        self.status = status


class Operation(NamedTuple):
    """A type of request.

    :ivar name: for logs.
    :ivar carry_out: with disk, sector and chain; the bytes concerned. Raises Refused or OSError.
    :ivar counter: where it is counted.
    """

    name: str
    carry_out: Callable[[Disk, int, Chain], int]
    counter: Callable[[BlockStats], Counter]


def header(chain: Chain) -> tuple[int, int]:
    """Type and sector.

    :raises BrokenQueue: this is no request: it has no header, or no room for its status.
    """
    if chain.readable_length < HEADER.size or not chain.writable_length:
        raise BrokenQueue("a request has no header or no status")
    first = chain.readable[0]
    kind, sector = HEADER.unpack_from(first if len(first) >= HEADER.size else chain.read(HEADER.size))
    return kind, sector


def _read(disk: Disk, sector: int, chain: Chain) -> int:
    length = chain.writable_length - 1
    _check_range(disk, sector, length)
    if len(chain.writable[-1]) == 1:  # the status, apart as Linux has it
        disk.read(sector * SECTOR, chain.writable[:-1])
    else:
        disk.read(sector * SECTOR, cut(chain.writable, 0, length))
    return length


def _write(disk: Disk, sector: int, chain: Chain) -> int:
    length = chain.readable_length - HEADER.size
    _check_writable(disk)
    _check_range(disk, sector, length)
    if len(chain.readable[0]) == HEADER.size:
        disk.write(sector * SECTOR, chain.readable[1:])
    else:
        disk.write(sector * SECTOR, cut(chain.readable, HEADER.size, length))
    return length


def _flush(disk: Disk, sector: int, chain: Chain) -> int:
    if not disk.read_only:
        disk.flush()
    return 0


def _discard(disk: Disk, sector: int, chain: Chain) -> int:
    offset, length, flags = _range(disk, chain)
    if flags:
        raise Refused(UNSUPP)
    disk.discard(offset, length)
    return length


def _write_zeroes(disk: Disk, sector: int, chain: Chain) -> int:
    offset, length, flags = _range(disk, chain)
    if flags & ~_UNMAP:
        raise Refused(UNSUPP)
    disk.write_zeroes(offset, length, unmap=bool(flags & _UNMAP))
    return length


def _range(disk: Disk, chain: Chain) -> tuple[int, int, int]:
    """Offset and length in bytes, and flags."""
    _check_writable(disk)
    if chain.readable_length - HEADER.size != MAX_RANGES * _RANGE.size:
        raise Refused(UNSUPP)
    sector, sectors, flags = _RANGE.unpack(b"".join(cut(chain.readable, HEADER.size, _RANGE.size)))
    if sectors > MAX_RANGE_SECTORS:
        raise Refused(IOERR)
    _check_range(disk, sector, sectors * SECTOR)
    return sector * SECTOR, sectors * SECTOR, flags


def _check_range(disk: Disk, sector: int, length: int) -> None:
    if length % SECTOR or sector * SECTOR + length > disk.size:
        raise Refused(IOERR)


def _check_writable(disk: Disk) -> None:
    if disk.read_only:
        raise Refused(IOERR)


OPERATIONS = {
    T_IN: Operation("read", _read, lambda stats: stats.reads),
    T_OUT: Operation("write", _write, lambda stats: stats.writes),
    T_FLUSH: Operation("flush", _flush, lambda stats: stats.flushes),
    T_DISCARD: Operation("discard", _discard, lambda stats: stats.discards),
    T_WRITE_ZEROES: Operation("write-zeroes", _write_zeroes, lambda stats: stats.writes),
}

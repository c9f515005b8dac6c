"""The file ``memory``: guest RAM as it can be mapped, and one page more that says which snapshot it is of.

::

    0            RAM, region after region; long runs of zeros are holes
    size         "stratovirt-memory UUID\\n", zeros up to one page

RAM is divided into chunks of CHUNK bytes, the last may be shorter. Each has a checksum, in ``state``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from stratovirt.errors import SnapshotError
from stratovirt.memory import Region
from stratovirt.migration.progress import Progress
from stratovirt.native.pages import CHECKSUM_SIZE, checksum, filled_runs
from stratovirt.vmstate import Section

CHUNK = 2 << 20
"""Bytes per checksum: a huge page, and what a core's cache holds from the search for zeros to the sum."""

MAX_CHUNK = 64 << 20
"""Bytes per checksum that are accepted: a chunk is read whole where it is verified."""

TRAILER_SIZE = 4096

SECTION, VERSION = "memory", 1

# sync_file_range(2), <fcntl.h>.
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_IN_FLIGHT = 64 << 20
"""Bytes given to the host that need not be on the disk yet; a cancelled writer waits for no more."""


@dataclass(frozen=True)
class Image:
    """What ``state`` says about the file, in its section ``memory``.

    :ivar size: bytes of RAM.
    :ivar chunk: bytes per checksum.
    :ivar checksums: of the chunks, one after the other.
    """

    uuid: str
    size: int
    chunk: int
    checksums: bytes

    @property
    def trailer(self) -> bytes:
        """The file's last page."""
        return f"stratovirt-memory {self.uuid}\n".encode().ljust(TRAILER_SIZE, b"\0")

    def section(self) -> Section:
        """All of it as plain values."""
        return Section(SECTION, VERSION, asdict(self))

    @classmethod
    def from_section(cls, section: Section) -> Image:
        """What :meth:`section` gave.

        :raises SnapshotError: it is of another version, or not sound.
        """
        if section.version != VERSION:
            raise SnapshotError(f"section {SECTION} has version {section.version}; known is {VERSION}")
        image = cls(**{field.name: section.state.get(field.name) for field in fields(cls)})  # type: ignore[arg-type]
        if not image._is_sound():
            raise SnapshotError(f"section {SECTION} holds what cannot be")
        return image

    def _is_sound(self) -> bool:
        kinds: dict[str, type[Any]] = {"uuid": str, "size": int, "chunk": int, "checksums": bytes}
        return (
            all(type(getattr(self, name)) is kind for name, kind in kinds.items())
            and len(self.uuid.encode()) < 64
            and min(self.size, self.chunk) > 0
            and self.chunk <= MAX_CHUNK
            and not self.size % mmap.PAGESIZE
            and not self.chunk % mmap.PAGESIZE
            and len(self.checksums) == -(-self.size // self.chunk) * CHECKSUM_SIZE
        )


def write_image(fd: int, regions: Sequence[Region], uuid: str, progress: Progress) -> Image:
    """Write guest RAM to the empty file ``fd`` and sync it.

    Pages that were never touched are not touched now. All regions but the last are multiples of CHUNK.

    :raises SnapshotCancelled: ``progress`` was cancelled.
    :raises OSError: the host refuses.
    """
    size = sum(region.size for region in regions)
    os.ftruncate(fd, size + TRAILER_SIZE)
    checksums = b"".join(_write_chunks(fd, regions, progress))
    image = Image(uuid, size, CHUNK, checksums)
    _write(fd, memoryview(image.trailer), size)
    os.fsync(fd)
    return image


def _write_chunks(fd: int, regions: Sequence[Region], progress: Progress) -> Iterator[bytes]:
    """Their checksums."""
    writeback = _Writeback(fd)
    position = 0
    for region in regions:
        for offset in range(0, region.size, CHUNK):
            progress.check()
            length = min(CHUNK, region.size - offset)
            written = _write_filled(fd, region, offset, length, position)
            if written:
                writeback.start(position, length)
            yield _checksum(region, offset, length) if written else zeros_checksum(length)
            progress.advance(length, written)
            position += length


def _write_filled(fd: int, region: Region, offset: int, length: int, position: int) -> int:
    """Write what is not zero of a part of ``region``; how many bytes that is."""
    if region.known_zero(offset, length):
        return 0
    written = 0
    for first, end in filled_runs(region.host_address + offset, length):
        with region.bytes[offset + first : offset + end] as run:
            _write(fd, run, position + first)
        written += end - first
    return written


def _checksum(region: Region, offset: int, length: int) -> bytes:
    with region.bytes[offset : offset + length] as chunk:
        return checksum(chunk)


@cache
def zeros_checksum(length: int) -> bytes:
    """Of a chunk of zeros."""
    return checksum(bytes(length))


def _write(fd: int, data: memoryview, position: int) -> None:
    while data:
        count = os.pwrite(fd, data, position)
        data, position = data[count:], position + count


class _Writeback:
    """Sends what was written to the disk while the next is prepared.

    So the last fsync finds little to do, and nobody who cancels has to wait for it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._started: deque[tuple[int, int]] = deque()

    def start(self, position: int, length: int) -> None:
        self._sync(position, length, _WRITE)
        self._started.append((position, length))
        if len(self._started) > _IN_FLIGHT // CHUNK:
            self._sync(*self._started.popleft(), _WAIT_BEFORE | _WRITE | _WAIT_AFTER)

    def _sync(self, position: int, length: int, flags: int) -> None:
        if _sync_file_range(self._fd, position, length, flags) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

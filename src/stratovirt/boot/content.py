"""Content: the bytes of a kernel, wherever they are, without joining them.

A mapped file is one piece; a decompressed lz4 kernel is one piece for each of its blocks. Joining
50 MB for the sake of one address would cost as much again as copying them into the guest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


class Content:
    """An immutable run of bytes held in pieces.

    :param pieces: buffers, in order; a view of one keeps a mapped file mapped.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = tuple(memoryview(piece) for piece in pieces)
        self.length = sum(len(piece) for piece in self._pieces)

    def read(self, offset: int, length: int) -> bytes:
        """A copy of ``length`` bytes at ``offset``; fewer where the content ends."""
        return b"".join(run for _, run in self._runs(offset, length))

    def copy_to(self, target: memoryview, offset: int) -> None:
        """Fill ``target`` with the bytes from ``offset`` on; what lies behind the content stays as it is."""
        for position, run in self._runs(offset, len(target)):
            target[position : position + len(run)] = run

    def contains(self, mark: bytes) -> bool:
        """Whether ``mark`` occurs anywhere, across pieces too."""
        pattern = re.compile(re.escape(mark))  # searches a buffer in place, which memoryview cannot
        overlap = len(mark) - 1
        tail = b""
        for piece in self._pieces:
            if mark in tail + piece[:overlap] or pattern.search(piece):
                return True
            tail = (tail + piece[-overlap:])[-overlap:]
        return False

    def _runs(self, offset: int, length: int) -> Iterator[tuple[int, memoryview]]:
        """``(position in the range, bytes)`` for each piece that the range touches."""
        start = 0
        for piece in self._pieces:
            low = max(offset, start)
            high = min(offset + length, start + len(piece))
            if low < high:
                yield low - offset, piece[low - start : high - start]
            start += len(piece)

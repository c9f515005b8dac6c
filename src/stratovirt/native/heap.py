"""Heaps that are given back: loading a kernel leaves 15 MiB in the heap of the thread that did it."""

from __future__ import annotations

from stratovirt.native._native import ffi, lib


class HeapMark:
    """A place in the heap of the thread that makes it."""

    def __init__(self) -> None:
        self._mark = lib.heap_mark()

    def give_back(self) -> None:
        """Give the host what lies unused at that heap's end, from any thread; takes milliseconds."""
        mark, self._mark = self._mark, ffi.NULL
        lib.heap_give_back(mark)

"""A virtqueue, as C sees it."""

from __future__ import annotations

from stratovirt.native._native import ffi


class Queue:
    """A virtqueue's rings, for C.

    :param descriptors, available, used: host addresses, checked; the memory outlives this object's use.
    :param size: entries of each, a power of two.
    :param indirect: may the driver use indirect descriptors?
    """

    def __init__(self, descriptors: int, available: int, used: int, *, size: int, indirect: bool) -> None:
        self.handle = ffi.new("struct native_queue *", (descriptors, available, used, size, indirect))

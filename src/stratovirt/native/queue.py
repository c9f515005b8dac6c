"""A virtqueue, as C sees it."""

from __future__ import annotations

from stratovirt.native._native import ffi


class Queue:
    """A virtqueue's rings, for C.

    :param descriptors, available, used: host addresses, checked; the memory outlives this object's use.
    :param size: entries of each, a power of two.
    :param indirect, event_idx: the ring features that were negotiated.
    :ivar progress: a ``struct queue_progress``, for C that moves both sides by itself.
    """

    def __init__(
        self, descriptors: int, available: int, used: int, *, size: int, indirect: bool, event_idx: bool
    ) -> None:
        rings = (descriptors, available, used)
        self.handle = ffi.new("struct native_queue *", (*rings, size, indirect, event_idx))
        self.progress = ffi.new("struct queue_progress *")

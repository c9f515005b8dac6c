"""Frames of a virtio network card, between its queues and a tap, in C."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stratovirt.native._native import ffi, lib
from stratovirt.native.queue import Queue


class Passed(NamedTuple):
    """What has passed a queue in one call.

    :ivar chains: by which both ring indices have moved.
    :ivar bytes: of the frames, without their headers.
    :ivar idle: no further frame has come; otherwise the queue is empty, or what comes next is not for C.
    """

    chains: int
    frames: int
    bytes: int
    idle: bool


class Net:
    """The card.

    :param regions: of guest RAM: guest physical address, size, host address.
    :param written: address of a ``struct native_written`` that is told of what is written there, or 0.
    :raises MemoryError: there is none, or there are too many regions.
    """

    def __init__(self, regions: Iterable[tuple[int, int, int]], written: int) -> None:
        areas = ffi.new("struct ram_region[]", list(regions))
        self._net = ffi.gc(lib.net_new(areas, len(areas), written), lib.net_free)
        if self._net == ffi.NULL:
            raise MemoryError

    def receive(
        self, queue: Queue, position: tuple[int, int], fd: int, *, mergeable: bool, most: int
    ) -> Passed:
        """At most so many frames from ``fd`` into the queue.

        :param position: ring indices, of the next chain to take and of the next to give back.
        """
        return _passed(lib.net_receive(self._net, queue.handle, *position, fd, mergeable, most))

    def send(self, queue: Queue, position: tuple[int, int], fd: int, *, most: int) -> Passed:
        """At most so many frames from the queue to ``fd``."""
        return _passed(lib.net_send(self._net, queue.handle, *position, fd, most))


def _passed(passed: ffi.CData) -> Passed:
    return Passed(passed.chains, passed.frames, passed.bytes, passed.idle)

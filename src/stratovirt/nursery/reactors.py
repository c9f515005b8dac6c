"""What serves virtio devices: a thread with epoll for those that may block, trio tasks for the others.

The law: a reactor calls a device on one thread, and after it has ended it calls no more. Cancelling the
thread's task ends the thread after the call in hand; it is waited for.
"""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable

import trio

Ready = Callable[[], None]


def _call(ready: Ready) -> None:
    """Call a device; the traceback of what it raises must not keep views of guest memory alive."""
    try:
        ready()
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise


class TrioReactor:
    """Serves on trio's own thread: for devices whose work is short. Implements :class:`Reactor`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._watched: dict[int, trio.CancelScope] = {}

    def watch(self, fd: int, ready: Ready) -> None:
        """See :class:`stratovirt.devices.virtio.device.Reactor`."""
        self._watched[fd] = trio.CancelScope()
        self._nursery.start_soon(self._serve, fd, ready, self._watched[fd])

    def unwatch(self, fd: int) -> None:
        """See :class:`stratovirt.devices.virtio.device.Reactor`."""
        self._watched.pop(fd).cancel()

    async def _serve(self, fd: int, ready: Ready, scope: trio.CancelScope) -> None:
        with scope:
            while not scope.cancel_called:
                await trio.lowlevel.wait_readable(fd)
                if not scope.cancel_called:
                    _call(ready)


class ThreadReactor:
    """Serves on a thread of its own, in :meth:`run`. Implements :class:`Reactor`."""

    def __init__(self, name: str) -> None:
        self._name = name[:15]  # Linux's TASK_COMM_LEN
        self._ready: dict[int, Ready] = {}
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)

    def watch(self, fd: int, ready: Ready) -> None:
        """See :class:`stratovirt.devices.virtio.device.Reactor`."""
        self._epoll.register(fd, select.EPOLLIN)
        self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """See :class:`stratovirt.devices.virtio.device.Reactor`."""
        self._epoll.unregister(fd)
        del self._ready[fd]

    async def run(self, last: Ready) -> None:
        """Serve until cancelled; returns when the thread has ended.

        :param last: what the thread does before it ends.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            limiter = trio.CapacityLimiter(1)
            await trio.to_thread.run_sync(self._loop, last, limiter=limiter, thread_name=self._name)
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Close its fds; not while :meth:`run` runs."""
        self._epoll.close()
        os.close(self._stop)

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            os.eventfd_write(self._stop, 1)

    def _loop(self, last: Ready) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._stop:
                    _call(last)
                    return
                if ready := self._ready.get(fd):  # unwatched by a call just before?
                    _call(ready)

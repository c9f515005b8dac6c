"""Waiting for room to write on many file descriptors, with one that a reactor can watch."""

from __future__ import annotations

import select

from stratovirt.devices.virtio.watches import Ready


class Rooms:
    """An epoll(7), so ``fd`` is readable while one of the descriptors that it watches takes data.

    However many these are, watching one more needs no descriptor.

    :raises OSError: no fds are left.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self.fd = self._epoll.fileno()

    def watch(self, fd: int, ready: Ready) -> None:
        """Let :meth:`look` call ``ready`` while ``fd`` takes data; it is not watched yet.

        :raises OSError: the host has no memory or no watches left (epoll_ctl(2)).
        """
        self._epoll.register(fd, select.EPOLLOUT)
        self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Do not call for ``fd`` any more."""
        self._epoll.unregister(fd)
        del self._ready[fd]

    def look(self) -> None:
        """Call for all that take data now."""
        for fd, _ in self._epoll.poll(0):
            if ready := self._ready.get(fd):  # unwatched by a call just before?
                ready()

    def close(self) -> None:
        """Close ``fd``."""
        self._epoll.close()

"""Waiting for room to write, for who can only wait until something is readable."""

from __future__ import annotations

import select


class Room:
    """``fd`` is readable while the descriptor that it watches takes data: an epoll(7) of its own."""

    def __init__(self, watched: int) -> None:
        self._epoll = select.epoll()
        self._epoll.register(watched, select.EPOLLOUT)
        self.fd = self._epoll.fileno()

    def close(self) -> None:
        """Close ``fd``."""
        self._epoll.close()

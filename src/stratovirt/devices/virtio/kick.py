"""A queue's doorbell: an eventfd that the guest's notification rings."""

from __future__ import annotations

import os


class Kick:
    """Rung by an accelerator (ioeventfd) or by :meth:`ring`; its reactor waits for :attr:`fd`."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Let the reactor call. Any thread; never blocks: 2**64 rings do not happen."""
        os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Forget the rings so far. The reactor's thread, which has seen that there is one."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Close the eventfd."""
        os.close(self.fd)

"""Which file descriptors can go with a request."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from stratovirt.client.limits import MAX_FDS


def check(fds: Sequence[int], family: int | None) -> None:
    """Can ``fds`` be sent over a socket of this address family; None is no socket at all?

    :raises ValueError: they cannot.
    """
    if fds and family != socket.AF_UNIX:
        raise ValueError("file descriptors can be passed over unix sockets only")
    if len(fds) > MAX_FDS:
        raise ValueError(f"{len(fds)} file descriptors: at most {MAX_FDS} can go with a request")

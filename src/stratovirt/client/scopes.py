"""What a block may end with: timeouts that say what did not come, and exceptions without a group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from stratovirt.errors import QmpTimeout


@contextmanager
def deadline(seconds: float | None, awaited: str) -> Iterator[None]:
    """Cancel the block after ``seconds``; None is never.

    :raises QmpTimeout: the time is over; the text names what was ``awaited``.
    """
    limit = math.inf if seconds is None else seconds
    try:
        with trio.fail_after(limit):
            yield
    except trio.TooSlowError:
        raise QmpTimeout(f"{awaited}: nothing within {limit:.3g} s") from None


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let the one exception of the block's nursery out as itself.

    The client's own tasks raise nothing, so that is what the user's code raised: he wrote no nursery and
    expects no group. Precedent: trio does so in open_tcp_stream.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        lone = group.exceptions[0]
        context = lone.__context__
        try:
            raise lone
        finally:
            lone.__context__ = context  # the group has nothing to tell

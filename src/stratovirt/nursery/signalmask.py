"""The signals that end a run in an orderly way, held back while nobody could obey them.

From the first instruction until the tree listens, and again behind it, they are blocked: what has been
claimed by then is given back all the same.
"""

from __future__ import annotations

import signal

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def block() -> set[int]:
    """Hold them back, here and in every thread started from here on; returns the mask that was."""
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)}


def let_through() -> set[int]:
    """Have them delivered; returns the mask that was, for :func:`put_back`."""
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)}


def put_back(mask: set[int]) -> None:
    """Undo :func:`let_through`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def die_by_them() -> None:
    """Be ended by them at once, as a process is that has nothing to clean up."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    let_through()

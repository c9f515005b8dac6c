"""The helpers' branch of the tree: programs that backends run, whose words and end go to the log.

The law: a helper is started and ended by its backend; here it is only listened to, by one task each.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import trio

log = logging.getLogger(__name__)

LONGEST_LINE = 4096
"""Longer ones are cut into several."""


class Helper(NamedTuple):
    """A program that runs.

    :ivar name: for the log.
    :ivar output: what it prints can be read here, until it ends.
    :ivar told_to_end: has its backend ended it? Any thread.
    """

    name: str
    output: int
    told_to_end: Callable[[], bool]


class Helpers:
    """Listens to helper programs in :meth:`run`."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Helper](
            math.inf
        )  # as many as there are backends
        self._token: trio.lowlevel.TrioToken | None = None

    def adopt(self, helper: Helper) -> None:
        """Listen to ``helper``; its descriptor is ours from now on. Any thread."""
        if self._token is None:
            self._send.send_nowait(helper)
        else:
            self._token.run_sync_soon(self._send.send_nowait, helper)

    async def run(self) -> None:
        """Listen until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            async for helper in self._receive:
                nursery.start_soon(self._listen, helper)

    def close(self) -> None:
        """Close the descriptors that nobody has listened to; nobody does any more."""
        while True:
            try:
                os.close(self._receive.receive_nowait().output)
            except trio.WouldBlock:
                return

    async def _listen(self, helper: Helper) -> None:
        rest = b""
        async with trio.lowlevel.FdStream(helper.output) as output:
            async for data in output:
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                for line in filter(None, lines):
                    log.info("%s: %s", helper.name, line.decode(errors="replace"))
        if not helper.told_to_end():
            log.warning("%s has ended", helper.name)

"""The monitors' branch of the tree: one listener per ``-qmp`` and ``-mon``.

It outlives the machine, so that a client can always ask what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.qmp.flow import Throttle
from stratovirt.qmp.server import QmpServer


@dataclass(frozen=True)
class Monitor:
    """A QMP monitor on a character device."""

    chardev: Chardev
    throttle: Throttle


async def serve_monitors(monitors: Sequence[Monitor], server: QmpServer) -> None:
    """Serve every monitor until cancelled."""
    async with trio.open_nursery() as nursery:
        for monitor in monitors:
            handler = partial(server.serve_client, throttle=monitor.throttle)
            nursery.start_soon(monitor.chardev.serve, handler)

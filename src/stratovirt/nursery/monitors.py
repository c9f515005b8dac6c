"""The monitors' branch of the tree: one listener per ``-qmp`` and ``-mon``.

It outlives the machine, so that a client can always ask what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.qmp.flow import Throttle

if TYPE_CHECKING:
    from stratovirt.qmp.server import QmpServer


@dataclass(frozen=True)
class Monitor:
    """A QMP monitor on a character device."""

    chardev: Chardev
    throttle: Throttle


class Monitors:
    """Every monitor of a run, in front of one server."""

    def __init__(self, monitors: Sequence[Monitor], server: QmpServer) -> None:
        self._monitors = monitors
        self._server = server
        self._first_client = trio.Event()

    async def serve(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load_validators)
            for monitor in self._monitors:
                nursery.start_soon(monitor.chardev.serve, partial(self._serve_client, monitor.throttle))

    async def _serve_client(self, throttle: Throttle, stream: trio.abc.Stream) -> None:
        self._first_client.set()
        await self._server.serve_client(stream, throttle=throttle)

    async def _load_validators(self) -> None:
        """Once somebody talks to us: importing jsonschema takes 0.2 s, which no boot or greeting needs."""
        await self._first_client.wait()
        await trio.to_thread.run_sync(self._server.registry.load_validators)

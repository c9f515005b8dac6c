"""The devices' branch of the tree: one task per virtio device, and a thread for those that may block.

The law: a device is changed (plugged, unplugged, saved) only while nobody serves it, in
:meth:`DeviceTask.quiesced`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from stratovirt.devices.virtio.mmio import VirtioMmio
from stratovirt.nursery.iothreads import IoThread
from stratovirt.nursery.reactors import ThreadReactor, TrioReactor


class DeviceTask:
    """Serves one device: on trio's thread while it cannot block, otherwise on a thread.

    :ivar iothread: that thread; None: one of its own. Changed only while nobody serves the device.
    """

    def __init__(self, transport: VirtioMmio, iothread: IoThread | None = None) -> None:
        self.transport = transport
        self.iothread = iothread
        self._serving = trio.Lock()  # fair: who waits to quiesce comes before who serves anew
        self._quiescing = 0
        self._draining = 0
        self._home = trio.CancelScope()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            async with self._serving:
                if not self._quiescing:
                    with trio.CancelScope() as self._home:
                        await self._serve()

    @asynccontextmanager
    async def quiesced(self) -> AsyncIterator[None]:
        """Within the block nobody serves the device; the unit of work in hand is done first.

        Who is cancelled while it waits for that gives up, and the device is served on.
        """
        self._quiescing += 1
        try:
            self._home.cancel()
            async with self._serving:
                yield
        finally:
            self._quiescing -= 1

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """As :meth:`quiesced`, with all that the driver had asked for done."""
        self._draining += 1
        try:
            async with self.quiesced():
                yield
        finally:
            self._draining -= 1

    async def _serve(self) -> None:
        if self.transport.device.blocking:
            await (self._serve_in_iothread(self.iothread) if self.iothread else self._serve_in_thread())
            return
        async with trio.open_nursery() as nursery:
            reactor = TrioReactor(nursery)
            self.transport.attach(reactor)
            try:
                await trio.sleep_forever()
            finally:
                self._last_work()
                self.transport.detach(reactor)

    async def _serve_in_thread(self) -> None:
        reactor = ThreadReactor(self.transport.name)
        try:
            self.transport.attach(reactor)
            try:
                await reactor.run(self._last_work)
            finally:
                self.transport.detach(reactor)
        finally:
            reactor.close()

    async def _serve_in_iothread(self, iothread: IoThread) -> None:
        await iothread.call(partial(self.transport.attach, iothread.reactor))
        try:
            await trio.sleep_forever()
        finally:
            await iothread.call(partial(self._leave, iothread))

    def _leave(self, iothread: IoThread) -> None:
        self._last_work()
        self.transport.detach(iothread.reactor)

    def _last_work(self) -> None:
        """On the device's thread, before it is not served any more."""
        if self._draining:
            self.transport.drain()

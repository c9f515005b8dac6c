"""``-object iothread``: a named thread that serves several devices.

The law: what is done to its reactor is done on its thread, by :meth:`IoThread.call`, or while it does not
run.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

import outcome
import trio

from stratovirt.nursery.reactors import ThreadReactor

Call = Callable[[], None]


class _Order:
    """A function that is to be called on the thread, and how that went."""

    def __init__(self, function: Call) -> None:
        self._function = function
        self._token = trio.lowlevel.current_trio_token()
        self._done = trio.Event()
        self._outcome: outcome.Outcome[None] | None = None

    def carry_out(self) -> None:
        """Call the function."""
        self._outcome = outcome.capture(self._function)
        self._token.run_sync_soon(self._done.set)

    async def result(self) -> None:
        """Wait until it has been called; raises what it raised."""
        await self._done.wait()
        assert self._outcome is not None
        self._outcome.unwrap()


class IoThread:
    """The thread, between the beginning and the end of :meth:`run`.

    :ivar id: its name, also on the host.
    :ivar reactor: serves the devices that were attached to it.
    :ivar thread_id: on the host; None while it does not run.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.reactor = ThreadReactor(id)
        self.thread_id: int | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._orders: deque[_Order] = deque()
        self._running = False
        self.reactor.watch(self._wake, self._obey)

    async def run(self) -> None:
        """Serve until cancelled, or until a device raises."""
        self._running = True
        self._order(self._begin)
        try:
            await self.reactor.run(self._end)
        finally:
            self._running = False
            self.thread_id = None
            self._obey_all()

    async def call(self, function: Call) -> None:
        """Call ``function`` on the thread, and wait for it; raises what it raises."""
        if not self._running:
            function()
            return
        order = self._order(function)
        with trio.CancelScope(shield=True):
            await order.result()

    def close(self) -> None:
        """Give back its fds; it does not run."""
        self.reactor.unwatch(self._wake)
        os.close(self._wake)
        self.reactor.close()

    def _order(self, function: Call) -> _Order:
        order = _Order(function)
        self._orders.append(order)
        os.eventfd_write(self._wake, 1)
        return order

    def _begin(self) -> None:
        self.thread_id = threading.get_native_id()

    def _end(self) -> None:
        """What is left is done by who waits for the thread."""

    def _obey(self) -> None:
        os.eventfd_read(self._wake)
        self._obey_all()

    def _obey_all(self) -> None:
        while self._orders:
            self._orders.popleft().carry_out()

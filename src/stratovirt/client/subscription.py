"""Events on their way to one subscriber.

The law: a subscriber never delays the connection, nor another subscriber. What waits is bounded; when it
is full the oldest event goes, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Self

import trio

from stratovirt.client.conversation import Event
from stratovirt.client.scopes import deadline
from stratovirt.errors import QmpDisconnected

# Events that wait for a subscriber, unless it asks for another number. The server's queue has the same.
MAX_WAITING = 1024


class Subscription:
    """An asynchronous iterator over events; made by :meth:`QmpClient.events`.

    :ivar dropped: events that were lost because the subscriber was too slow.
    """

    def __init__(self, names: Collection[str], limit: int, reason: Callable[[], str]) -> None:
        self.dropped = 0
        self._names = frozenset(names)
        self._reason = reason
        self._put, self._take = trio.open_memory_channel[Event](limit)

    async def get(self, *, timeout: float | None = None) -> Event:
        """The next event.

        :param timeout: seconds to wait for it.
        :raises QmpTimeout: none came in time.
        :raises QmpDisconnected: the connection has ended and no event is left.
        """
        with deadline(timeout, f"event {' or '.join(sorted(self._names)) or 'of any name'}"):
            try:
                return await self._take.receive()
            except trio.EndOfChannel:
                raise QmpDisconnected(self._reason()) from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await self.get()

    def offer(self, event: Event) -> None:
        """The connection has read an event."""
        if self._names and event.name not in self._names:
            return
        if self._put.statistics().current_buffer_used == self._put.statistics().max_buffer_size:
            self._take.receive_nowait()
            self.dropped += 1
        self._put.send_nowait(event)

    def end(self) -> None:
        """No event comes any more; those that wait are still there to be got."""
        self._put.close()

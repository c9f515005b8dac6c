"""Events on their way to one subscriber's task.

The law: a subscriber never delays the connection, nor another subscriber; an event that was not waited
for to the end – the task was cancelled – still waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import trio

from stratovirt.client.conversation import Event
from stratovirt.client.mailbox import Mailbox
from stratovirt.client.scopes import deadline
from stratovirt.errors import QmpDisconnected


class Subscription:
    """An asynchronous iterator over events; made by :meth:`QmpClient.events`.

    Its end is not silent: after the last event iteration raises :exc:`QmpDisconnected`.
    """

    def __init__(self, mailbox: Mailbox, reason: Callable[[], str]) -> None:
        self._mailbox = mailbox
        self._reason = reason
        self._ended = False
        self._arrival = trio.lowlevel.ParkingLot()

    @property
    def dropped(self) -> int:
        """Events that were lost because the subscriber was too slow."""
        return self._mailbox.dropped

    async def get(self, *, timeout: float | None = None) -> Event:
        """The next event.

        :param timeout: seconds to wait for it.
        :raises QmpTimeout: none came in time.
        :raises QmpDisconnected: the connection has ended and no event is left.
        """
        with deadline(timeout, str(self._mailbox)):
            await trio.lowlevel.checkpoint()
            while not self._mailbox:
                if self._ended:
                    raise QmpDisconnected(self._reason())
                await self._arrival.park()
        return self._mailbox.take()

    def waiting(self) -> list[Event]:
        """Take the events that have come and that nobody has got yet, without waiting for more."""
        return [self._mailbox.take() for _ in range(len(self._mailbox))]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await self.get()

    def offer(self, event: Event) -> None:
        """The connection has read an event."""
        if self._mailbox.put(event):
            self._arrival.unpark()

    def end(self) -> None:
        """No event comes any more; those that wait are still there to be got."""
        self._ended = True
        self._arrival.unpark_all()

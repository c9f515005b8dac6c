"""What waits to be sent to one client.

The law: putting never blocks and never fails; the order of putting is the order of sending. Events are
bounded in number: the oldest are dropped and counted. Replies are bounded by their reader, who waits for
``room`` before it takes on the next request.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import trio

# Events that wait for one client. A machine's life makes a few per second at most, so this is minutes.
# Precedent for dropping the oldest: a trace buffer; for saying so: Linux's netlink (ENOBUFS).
MAX_EVENTS = 1024
# Bytes of replies beyond which a client's next request has to wait. Precedent: asyncio's high-water mark.
REPLY_BACKLOG = 1 << 16
# Bytes handed to the stream at once; what fits goes out in one send.
BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class _Item:
    data: bytes
    is_event: bool
    alone: bool


class Outbox:
    """A queue from the reader, and the event bus, to the writer of one session."""

    def __init__(self) -> None:
        self.events_dropped = 0
        self._items: deque[_Item] = deque()
        self._events = 0
        self._reply_bytes = 0
        self._sending = False
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def events_waiting(self) -> int:
        """Events that have not been handed to the stream."""
        return self._events

    @property
    def reply_bytes_waiting(self) -> int:
        """Bytes of replies that have not been handed to the stream."""
        return self._reply_bytes

    @property
    def idle(self) -> bool:
        """Has everything been sent?"""
        return not self._items and not self._sending

    def put_reply(self, data: bytes) -> None:
        """Queue a reply, or the greeting."""
        if not self._closed:
            self._reply_bytes += len(data)
            self._add(_Item(data, is_event=False, alone=False))

    def put_event(self, data: bytes, *, alone: bool = False) -> bool:
        """Queue an event; ``alone`` keeps it in a send of its own, behind all that waits.

        True if an older one had to be dropped for it.
        """
        if self._closed:
            return False
        full = self._events == MAX_EVENTS
        if full:
            self._drop_oldest_event()
        self._events += 1
        self._add(_Item(data, is_event=True, alone=alone))
        return full

    def close(self) -> None:
        """Take nothing more; what waits is still sent."""
        self._closed = True
        self._changed.unpark_all()

    def abandon(self) -> None:
        """Nothing more can be sent: the client is gone."""
        self._items.clear()
        self._events = self._reply_bytes = 0
        self._sending = False
        self.close()

    async def next_batch(self) -> bytes:
        """Wait for something to send and take all of it that belongs in one send; ``b""`` at the end.

        Until the next call it counts as being sent.
        """
        self._sending = False
        self._changed.unpark_all()
        while not self._items:
            if self._closed:
                return b""
            await self._changed.park()
        self._sending = True
        return b"".join(self._take())

    async def room(self) -> None:
        """Wait until another reply may be added."""
        while self._reply_bytes >= REPLY_BACKLOG:
            await self._changed.park()

    async def flushed(self) -> None:
        """Wait until everything has been sent, or never will be."""
        while not self.idle:
            await self._changed.park()

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._changed.unpark_all()

    def _take(self) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        while self._items and not (taken and (self._items[0].alone or size >= BATCH)):
            item = self._items.popleft()
            if item.is_event:
                self._events -= 1
            else:
                self._reply_bytes -= len(item.data)
            taken.append(item.data)
            size += len(item.data)
            if item.alone:
                break
        return taken

    def _drop_oldest_event(self) -> None:
        # Only replies can stand before it, and REPLY_BACKLOG bounds those.
        index = next(index for index, item in enumerate(self._items) if item.is_event)
        del self._items[index]
        self._events -= 1
        self.events_dropped += 1

"""Events that wait for one subscriber.

The law: putting never blocks and never fails. What waits is bounded; when it is full the oldest event
goes, and is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from stratovirt.client.conversation import Event


class Mailbox:
    """A bounded queue of the events with certain names; no names are all names.

    :ivar dropped: events that were lost because nobody took them in time.
    """

    def __init__(self, names: Iterable[str], limit: int) -> None:
        self.dropped = 0
        self._names = frozenset(names)
        self._waiting: deque[Event] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._waiting)

    def __str__(self) -> str:
        return f"event {' or '.join(sorted(self._names)) or 'of any name'}"

    def put(self, event: Event) -> bool:
        """The connection has read an event; was it of interest?"""
        if self._names and event.name not in self._names:
            return False
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(event)
        return True

    def take(self) -> Event:
        """The oldest event.

        :raises IndexError: none waits.
        """
        return self._waiting.popleft()

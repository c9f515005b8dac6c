"""One client's connection, without the connection: what came in, what is owed, what may go out.

The law: the greeting goes first; each request is answered once, in order, with its id; events only flow
between greeting and end. Breaking it raises :class:`ProtocolMisuse` here rather than confusing a client.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from stratovirt.qmp.protocol import messages
from stratovirt.qmp.protocol.framing import Framer, Garbage
from stratovirt.qmp.protocol.messages import Id, Refusal, Request
from stratovirt.qmp.protocol.state import TRANSITIONS, Happening, State


class ProtocolMisuse(Exception):
    """The server's own code asked for something that the protocol forbids."""


class Connection:
    """Bytes in, requests out; answers and events in, bytes out."""

    def __init__(self) -> None:
        self.state = State.NEW
        self._framer = Framer()
        self._owed: deque[Id] = deque()

    @property
    def owed(self) -> int:
        """Requests that have not been answered."""
        return len(self._owed)

    def greet(self, version: str) -> bytes:
        """The greeting, once and before anything else."""
        self._live_through(Happening.GREETED)
        return messages.greeting(version)

    def receive(self, packet: bytes) -> list[Request | Refusal]:
        """What the client asks for with this packet; ``b""`` is the end of its input.

        Each element is owed one :meth:`reply` or :meth:`refuse`, in this order.
        """
        if self.state is not State.OPEN:
            raise ProtocolMisuse(f"no input is read in state {self.state.name}")
        pieces = self._framer.feed(packet) if packet else self._framer.end()
        requests = [messages.read(piece) for piece in pieces]
        self._owed.extend(request.id for request in requests)
        if not packet:
            self._live_through(Happening.INPUT_ENDED)
        elif any(isinstance(piece, Garbage) and piece.fatal for piece in pieces):
            self._live_through(Happening.UNFRAMEABLE)
        self._check_answered()
        return requests

    def reply(self, result: bytes) -> bytes:
        """Answer the oldest open request with an encoded result."""
        return messages.reply(result, self._settle())

    def refuse(self, desc: str, error_class: str = "GenericError") -> bytes:
        """Answer the oldest open request with an error."""
        if error_class not in messages.ERROR_CLASSES:
            raise ProtocolMisuse(f"{error_class} is no error class of QMP")
        return messages.error(error_class, desc, self._settle())

    def event(self, name: str, data: dict[str, Any], microseconds: int) -> bytes:
        """An event, stamped with the wall clock's microseconds since 1970."""
        if self.state is State.NEW:
            raise ProtocolMisuse("no event goes out before the greeting")
        return messages.event(name, data, microseconds)

    def lost(self) -> None:
        """The client is gone."""
        self._live_through(Happening.LOST)

    def _settle(self) -> Id:
        if not self._owed:
            raise ProtocolMisuse("no request is open")
        id = self._owed.popleft()
        self._check_answered()
        return id

    def _check_answered(self) -> None:
        if not self._owed:
            self._live_through(Happening.ALL_ANSWERED)

    def _live_through(self, happening: Happening) -> None:
        following = TRANSITIONS.get((self.state, happening))
        if following is None:
            raise ProtocolMisuse(f"{happening.name} cannot happen in state {self.state.name}")
        self.state = following

"""The life of a connection, as a table.

The law: everything that changes a connection's state is in ``TRANSITIONS``; a pair that is missing there
is a mistake of the caller, not of the client.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What may happen on a connection."""

    NEW = enum.auto()  # nothing has been sent: the greeting comes before all else
    OPEN = enum.auto()  # requests in; replies and events out
    ENDING = enum.auto()  # no more requests; what has been asked is still answered
    CLOSED = enum.auto()  # nothing more in either direction


class Happening(enum.Enum):
    """What a connection can live through."""

    GREETED = enum.auto()
    INPUT_ENDED = enum.auto()  # the client has closed its half
    UNFRAMEABLE = enum.auto()  # a message beyond a limit: the rest cannot be read
    ALL_ANSWERED = enum.auto()  # no reply is owed any more
    LOST = enum.auto()  # the client is gone


TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.NEW, Happening.GREETED): State.OPEN,
    (State.NEW, Happening.LOST): State.CLOSED,
    (State.OPEN, Happening.ALL_ANSWERED): State.OPEN,
    (State.OPEN, Happening.INPUT_ENDED): State.ENDING,
    (State.OPEN, Happening.UNFRAMEABLE): State.ENDING,
    (State.OPEN, Happening.LOST): State.CLOSED,
    (State.ENDING, Happening.ALL_ANSWERED): State.CLOSED,
    (State.ENDING, Happening.LOST): State.CLOSED,
    (State.CLOSED, Happening.ALL_ANSWERED): State.CLOSED,
    (State.CLOSED, Happening.LOST): State.CLOSED,
}

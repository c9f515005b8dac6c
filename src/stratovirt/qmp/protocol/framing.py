"""Messages out of the byte stream of one client, framed by JSON value.

The law: a stream of well-formed values gives the same messages fed whole, byte by byte or cut anywhere,
and each byte costs the same however it comes. Clients may send no newline, several messages in a packet
or one in many. Two kinds of trouble keep the connection:

- a *defect* (duplicate key, number out of range, …) spoils one message whose end is known;
- a *syntax error* loses the place. It is found again behind the next newline; behind a 0xFF byte
  (QEMU's flush) or at the start of a packet if ``{`` follows there, so that a client that sends no
  newlines does not hang after one typo.

A message that is too long or too deep is the end: nothing behind it can be trusted to be a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from stratovirt.qmp.protocol.lexer import Lexer, Unreadable, show, skip_blanks
from stratovirt.qmp.protocol.parser import Parser

# Bytes of one message. Precedents: StratoVirt 8 KiB, QEMU 64 MiB, libvirt's limit for replies 10 MiB.
MAX_MESSAGE = 1 << 20
# Containers within containers. Precedent: QEMU's json-streamer.c, MAX_NESTING.
MAX_DEPTH = 1024

_LANDMARK = re.compile(rb"[\n\xff]")
_OPENING = re.compile(rb"[ \t\r]*\{")
_TOO_LONG = f"a message is longer than the limit of {MAX_MESSAGE} bytes"
_TOO_DEEP = f"a message is nested deeper than the limit of {MAX_DEPTH} levels"


@dataclass(frozen=True, slots=True)
class Message:
    """One whole value.

    :ivar value: the value; with a defect, the value as far as it is one.
    :ivar defect: why it cannot be used, or None.
    :ivar id_text: JSON text of the outermost object's ``id``, or None.
    """

    value: Any
    defect: str | None
    id_text: bytes | None


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no message.

    :ivar problem: why, with the offset.
    :ivar id_text: the id, if the message got that far.
    :ivar fatal: the stream cannot be followed any further.
    """

    problem: str
    id_text: bytes | None
    fatal: bool = False


class Framer:
    """Takes packets as they arrive and returns what they complete."""

    def __init__(self) -> None:
        self._lost = False
        self._dead = False
        self._restart()

    def feed(self, packet: bytes) -> list[Message | Garbage]:
        """What ends in ``packet``, in order; nothing follows a fatal piece of garbage."""
        found: list[Message | Garbage] = []
        at = self._find_place(packet) if self._lost else 0
        while at < len(packet) and not self._dead:
            at = self._step(packet, at, found)
        return found

    def end(self) -> list[Message | Garbage]:
        """What the end of the stream leaves: an error if it came within a message."""
        begun = self._size > 0 and not self._dead
        self._dead = True
        return [Garbage("the input ended within a message", self._parser.id_text)] if begun else []

    def _step(self, packet: bytes, at: int, found: list[Message | Garbage]) -> int:
        """Take one token, or what there is of it, from ``at``; returns where to go on."""
        if not self._lexer.begun:
            begin = skip_blanks(packet, at)
            self._size += begin - at if self._size else 0
            at = begin
        try:
            token, end = self._next_token(packet, at)
        except Unreadable as trouble:
            return self._syntax_error(packet, at, trouble, found)
        self._size += end - at
        if self._size > MAX_MESSAGE:
            self._give_up(found, _TOO_LONG)
        elif token is not None:
            self._take(token, found)
        return end

    def _next_token(self, packet: bytes, at: int) -> tuple[bytes | None, int]:
        """As :meth:`Lexer.next`, but a token that may not stand here is refused at its first byte.

        Waiting for its end would cost a client that sends no newlines its next message: the quote of
        ``stop"}`` opens a string that only the next message's quote closes.
        """
        if at < len(packet) and not self._lexer.begun:
            wanted = self._parser.objection(packet[at])
            if wanted is not None:
                raise Unreadable(at, f"expected {wanted}, not {show(packet[at])}")
        return self._lexer.next(packet, at)

    def _take(self, token: bytes, found: list[Message | Garbage]) -> None:
        self._parser.push(token)
        if self._parser.depth > MAX_DEPTH:
            self._give_up(found, _TOO_DEEP)
        elif self._parser.complete:
            found.append(Message(self._parser.value, self._parser.defect, self._parser.id_text))
            self._restart()

    def _syntax_error(
        self, packet: bytes, at: int, trouble: Unreadable, found: list[Message | Garbage]
    ) -> int:
        """Note an error; returns the next place to begin at. The message has been counted up to ``at``."""
        offset = self._size + trouble.at - at
        if offset >= MAX_MESSAGE:
            self._give_up(found, _TOO_LONG)
            return at
        text = f"syntax error at byte {offset} of the message: {trouble.problem}"
        found.append(Garbage(text, self._parser.id_text))
        self._restart()
        return self._next_landmark(packet, trouble.at)

    def _give_up(self, found: list[Message | Garbage], problem: str) -> None:
        found.append(Garbage(problem, self._parser.id_text, fatal=True))
        self._dead = True

    def _restart(self) -> None:
        self._lexer = Lexer()
        self._parser = Parser()
        self._size = 0

    def _find_place(self, packet: bytes) -> int:
        """Where a message may begin in a packet that follows an error."""
        if _OPENING.match(packet):
            self._lost = False
            return 0
        return self._next_landmark(packet, 0)

    def _next_landmark(self, packet: bytes, at: int) -> int:
        """The place behind the next newline, or flush byte with ``{`` behind it, from ``at`` on."""
        for landmark in _LANDMARK.finditer(packet, at):
            if landmark[0] == b"\n" or _OPENING.match(packet, landmark.end()):
                self._lost = False
                return landmark.end()
        self._lost = True
        return len(packet)

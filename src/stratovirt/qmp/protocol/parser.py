"""JSON's grammar as a table: tokens in, one value out (RFC 8259 sections 2 to 7).

The law: whatever decides if a token may stand where it stands is in ``_GRAMMAR``. No recursion: the
depth of a message is the length of a list, so that a deep one cannot overflow Python's stack (json in
CPython 3.11 gives up near 1,000 levels). A defect – a duplicate key, a number out of range – is noted
and parsing goes on, because the end of such a message is still certain, and so is its id.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from stratovirt.qmp.protocol.decoding import Defect, decode_string, decode_word


class Misplaced(Exception):
    """The grammar allows no such token here; the text says what it allows."""


class _Expect(enum.Enum):
    """What may come next; the values complete the sentence "expected …"."""

    MESSAGE = "a JSON object"
    VALUE = "a value"
    FIRST_ITEM = "a value or ']'"
    NEXT_ITEM = "',' or ']'"
    FIRST_KEY = "a key or '}'"
    KEY = "a key"
    COLON = "':'"
    NEXT_KEY = "',' or '}'"
    NOTHING = "nothing"


class Parser:
    """Builds one value; a new Parser for each."""

    def __init__(self) -> None:
        self.value: Any = None
        self.defect: str | None = None
        self._expect = _Expect.MESSAGE
        self._containers: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str] = []
        self._id = _IdText()

    @property
    def complete(self) -> bool:
        """Has the value ended?"""
        return self._expect is _Expect.NOTHING

    @property
    def depth(self) -> int:
        """Containers that are open."""
        return len(self._containers)

    @property
    def id_text(self) -> bytes | None:
        """The outermost object's ``id`` as JSON text without white space, once it has been read whole."""
        return self._id.result

    def push(self, token: bytes) -> None:
        """Take the next token.

        :raises Misplaced: the grammar forbids it.
        """
        action = _GRAMMAR[self._expect].get(_column(token))
        if action is None:
            raise Misplaced(f"expected {self._expect.value}")
        wanted = self._id.open and not (self._expect is _Expect.COLON and self.depth == 1)
        try:
            action(self, token)
        except Defect as defect:
            self._note(str(defect))
        if wanted:
            self._id.add(token, last=self.depth == 1)

    def _note(self, defect: str) -> None:
        self.defect = self.defect or defect
        self._id.spoil()

    def _open(self, token: bytes) -> None:
        container: dict[str, Any] | list[Any] = {} if token == b"{" else []
        self._place(container)
        self._containers.append(container)
        self._expect = _Expect.FIRST_KEY if token == b"{" else _Expect.FIRST_ITEM

    def _close(self, token: bytes) -> None:
        self._containers.pop()
        self._settle()

    def _string(self, token: bytes) -> None:
        self._scalar(decode_string, token)

    def _word(self, token: bytes) -> None:
        self._scalar(decode_word, token)

    def _scalar(self, decode: Callable[[bytes], Any], token: bytes) -> None:
        value = None
        try:
            value = decode(token)
        finally:
            self._place(value)
            self._settle()

    def _key(self, token: bytes) -> None:
        self._expect = _Expect.COLON
        self._keys.append("")
        key = self._keys[-1] = decode_string(token)
        if key == "id" and self.depth == 1:
            self._id.begin()
        if key in self._containers[-1]:
            raise Defect(f"the key {token.decode()} appears twice")

    def _colon(self, token: bytes) -> None:
        self._expect = _Expect.VALUE

    def _comma(self, token: bytes) -> None:
        self._expect = _Expect.KEY if isinstance(self._containers[-1], dict) else _Expect.VALUE

    def _place(self, value: Any) -> None:
        """Put a value where it belongs in the innermost container."""
        if not self._containers:
            self.value = value
        elif isinstance(container := self._containers[-1], dict):
            container[self._keys.pop()] = value
        else:
            container.append(value)

    def _settle(self) -> None:
        """A value has ended: what may follow is up to the container it is in."""
        if not self._containers:
            self._expect = _Expect.NOTHING
        elif isinstance(self._containers[-1], dict):
            self._expect = _Expect.NEXT_KEY
        else:
            self._expect = _Expect.NEXT_ITEM


class _IdText:
    """The tokens of the message's id, so that a reply can echo it to the letter: 1.10 stays 1.10."""

    def __init__(self) -> None:
        self.open = False
        self.result: bytes | None = None
        self._text = bytearray()

    def begin(self) -> None:
        self.open = True
        self._text.clear()

    def add(self, token: bytes, *, last: bool) -> None:
        self._text += token
        if last and self.open:
            self.result = bytes(self._text)
            self.open = False

    def spoil(self) -> None:
        """The id that is being read has a defect and cannot be echoed."""
        self.open = False


_Action = Callable[[Parser, bytes], None]
_Row = dict[bytes, _Action]

# Row: what is expected. Column: a token's first byte, or _WORD_COLUMN.
_WORD_COLUMN = b"w"
_VALUE: _Row = {b"{": Parser._open, b"[": Parser._open, b'"': Parser._string, _WORD_COLUMN: Parser._word}
_GRAMMAR: dict[_Expect, _Row] = {
    _Expect.MESSAGE: _VALUE,
    _Expect.VALUE: _VALUE,
    _Expect.FIRST_ITEM: {**_VALUE, b"]": Parser._close},
    _Expect.NEXT_ITEM: {b",": Parser._comma, b"]": Parser._close},
    _Expect.FIRST_KEY: {b'"': Parser._key, b"}": Parser._close},
    _Expect.KEY: {b'"': Parser._key},
    _Expect.COLON: {b":": Parser._colon},
    _Expect.NEXT_KEY: {b",": Parser._comma, b"}": Parser._close},
    _Expect.NOTHING: {},
}


def _column(token: bytes) -> bytes:
    first = token[:1]
    return first if first in b'{}[],:"' else _WORD_COLUMN

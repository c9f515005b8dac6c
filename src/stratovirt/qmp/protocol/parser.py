"""JSON's grammar as a table: tokens in, one value out (RFC 8259 sections 2 to 7).

The law: whatever decides if a token may stand where it stands is in the rows at the
end of this file. No recursion: the
depth of a message is the length of a list, so that a deep one cannot overflow Python's stack (json in
CPython 3.11 gives up near 1,000 levels). A defect – a duplicate key, a number out of range – is noted
and parsing goes on, because the end of such a message is still certain, and so is its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stratovirt.qmp.protocol.decoding import Defect, decode_string, decode_word
from stratovirt.qmp.protocol.lexer import WORD_BYTES


class Parser:
    """Builds one value; a new Parser for each."""

    def __init__(self) -> None:
        self.value: Any = None
        self.defect: str | None = None
        self._row = _MESSAGE
        self._containers: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str] = []
        self._id = _IdText()

    @property
    def complete(self) -> bool:
        """Has the value ended?"""
        return self._row is _NOTHING

    @property
    def depth(self) -> int:
        """Containers that are open."""
        return len(self._containers)

    @property
    def id_text(self) -> bytes | None:
        """The outermost object's ``id`` as JSON text without white space, once it has been read whole."""
        return self._id.result

    def objection(self, first: int) -> str | None:
        """What is expected, if the grammar allows no token that begins with this byte; else None."""
        return None if first in self._row.actions else self._row.expected

    def push(self, token: bytes) -> None:
        """Take the next token, to which there is no objection."""
        action = self._row.actions[token[0]]
        wanted = self._id.open and not (self._row is _COLON and self.depth == 1)
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
        self._row = _FIRST_KEY if token == b"{" else _FIRST_ITEM

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
        self._row = _COLON
        self._keys.append("")
        key = self._keys[-1] = decode_string(token)
        if key == "id" and self.depth == 1:
            self._id.begin()
        if key in self._containers[-1]:
            raise Defect(f"the key {token.decode()} appears twice")

    def _colon(self, token: bytes) -> None:
        self._row = _VALUE

    def _comma(self, token: bytes) -> None:
        self._row = _KEY if isinstance(self._containers[-1], dict) else _VALUE

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
            self._row = _NOTHING
        elif isinstance(self._containers[-1], dict):
            self._row = _NEXT_KEY
        else:
            self._row = _NEXT_ITEM


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


@dataclass(frozen=True, slots=True)
class _Row:
    """A state of the grammar.

    :ivar expected: completes the sentence "expected …".
    :ivar actions: what each token does here, by its first byte.
    """

    expected: str
    actions: Mapping[int, Callable[[Parser, bytes], None]]


_CONTAINERS = dict.fromkeys(b"{[", Parser._open)
_VALUES = _CONTAINERS | dict.fromkeys(b'"', Parser._string) | dict.fromkeys(WORD_BYTES, Parser._word)
_KEYS = dict.fromkeys(b'"', Parser._key)

# No bare words: one at the start is a typo, and without a newline its end might never come.
_MESSAGE = _Row("a JSON object", _CONTAINERS | dict.fromkeys(b'"', Parser._string))
_VALUE = _Row("a value", _VALUES)
_FIRST_ITEM = _Row("a value or ']'", _VALUES | dict.fromkeys(b"]", Parser._close))
_NEXT_ITEM = _Row("',' or ']'", {ord(","): Parser._comma, ord("]"): Parser._close})
_FIRST_KEY = _Row("a key or '}'", _KEYS | dict.fromkeys(b"}", Parser._close))
_KEY = _Row("a key", _KEYS)
_COLON = _Row("':'", {ord(":"): Parser._colon})
_NEXT_KEY = _Row("',' or '}'", {ord(","): Parser._comma, ord("}"): Parser._close})
_NOTHING = _Row("nothing", {})

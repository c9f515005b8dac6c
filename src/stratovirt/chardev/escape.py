"""The terminal's escape keys: Ctrl-a and one more key is for us, everything else for the guest.

The law: no I/O here; bytes in, bytes and keys out, the same however the input is cut.
Source: QEMU's "Keys in the character backend multiplexer"; unlike QEMU we have no save, break and stamps.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

ESCAPE = 0x01
"""Ctrl-a. Twice: one for the guest."""


class Key(enum.Enum):
    """What may follow Ctrl-a; the value is the key. Any other key is swallowed with the escape."""

    HELP = "h"
    QUIT = "x"
    MONITOR = "c"


_KEYS = {ord(key.value): key for key in Key}

_MEANING = {
    Key.HELP: "print this help",
    Key.QUIT: "quit the machine",
    Key.MONITOR: "switch between console and monitor",
}


class EscapeParser:
    """Separates the guest's input from ours."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes | bytearray) -> list[bytes | Key]:
        """Runs of bytes for the guest and keys for us, in the order typed."""
        found: list[bytes | Key] = []
        text = bytearray()
        for item in self._items(data):
            if isinstance(item, int):
                text.append(item)
                continue
            found += [bytes(text), item] if text else [item]
            text.clear()
        return [*found, bytes(text)] if text else found

    def _items(self, data: bytes | bytearray) -> Iterator[int | Key]:
        for byte in data:
            if not self._escaped and byte != ESCAPE:
                yield byte
            elif self._escaped and byte == ESCAPE:
                yield ESCAPE
            elif self._escaped and byte in _KEYS:
                yield _KEYS[byte]
            self._escaped = byte == ESCAPE and not self._escaped


def help_text() -> bytes:
    """What Ctrl-a h prints."""
    lines = [f"C-a {key.value}    {_MEANING[key]}" for key in Key]
    return ("\r\n" + "\r\n".join([*lines, "C-a C-a  send C-a"]) + "\r\n").encode()

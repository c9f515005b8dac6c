"""JSON tokens out of a byte stream that may be cut anywhere (RFC 8259 section 2).

The law: every byte is looked at once, however the stream is cut, and the tokens do not depend on the
cuts. A token is its bytes: one of ``{}[],:``, a string with its quotes, or a word (a number, a literal,
or a misspelling of one). What a string or word means is no concern of this file; it raises only where
nobody could say where the token ends.
"""

from __future__ import annotations

import re
import string

_BLANKS = re.compile(rb"[ \t\r\n]*+")

# Possessive: a megabyte of string must not leave a megabyte of positions to backtrack to.
# Raw control characters may not stand in a string; they and 0xFF, which is in no UTF-8 text and is
# QEMU's flush byte, end the hope of finding the string's end.
_STRING = re.compile(rb'(?:[^"\\\x00-\x1f\xff]++|\\[^\x00-\x1f\xff])*+')
_STRING_AFTER_BACKSLASH = re.compile(rb'[^\x00-\x1f\xff](?:[^"\\\x00-\x1f\xff]++|\\[^\x00-\x1f\xff])*+')
WORD_BYTES = b"-+._" + (string.digits + string.ascii_letters).encode()
_WORD = re.compile(b"[" + re.escape(WORD_BYTES) + b"]*+")

# The usual case in one match: a token that needs no look behind its end, whole in this packet.
_WHOLE = re.compile(rb"[{}\[\],:]|" + b'"' + _STRING.pattern + b'"')


class Unreadable(Exception):
    """No token can begin, or go on, at this byte.

    :param at: index of the byte in the packet.
    :param problem: what is wrong, to follow the words "syntax error: ".
    """

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(problem)
        self.at = at
        self.problem = problem


def show(byte: int) -> str:
    """A byte, for people."""
    return f"'{chr(byte)}'" if 0x20 <= byte < 0x7F else f"byte 0x{byte:02x}"


class Lexer:
    """Cuts packets into tokens.

    :ivar begun: the token that the last packet ended in, as far as it has come.
    """

    def __init__(self) -> None:
        self.begun = bytearray()
        self._after_backslash = False

    def next(self, packet: bytes, at: int) -> tuple[bytes | None, int]:
        """The token that begins, or goes on, at ``at``, and the index behind it.

        ``(None, len(packet))`` when the packet ends first. The byte at ``at`` must be one that a token
        begins with, unless a token goes on there.

        :raises Unreadable: there can be none.
        """
        if not self.begun:
            if whole := _WHOLE.match(packet, at):
                return whole[0], whole.end()
            if packet[at : at + 1] == b'"':
                self.begun += b'"'
                at += 1
        if at == len(packet):
            return None, at
        return self._string(packet, at) if self.begun[:1] == b'"' else self._word(packet, at)

    def _word(self, packet: bytes, at: int) -> tuple[bytes | None, int]:
        end = _end(_WORD, packet, at)
        self.begun += packet[at:end]
        return (None, end) if end == len(packet) else (self._finish(), end)

    def _string(self, packet: bytes, at: int) -> tuple[bytes | None, int]:
        end = _end(_STRING_AFTER_BACKSLASH if self._after_backslash else _STRING, packet, at)
        self.begun += packet[at:end]
        self._after_backslash &= end == at
        rest = packet[end : end + 2]
        if rest == b"\\":
            self.begun += rest
            self._after_backslash = True
            return None, end + 1
        if not rest:
            return None, end
        if rest[:1] == b'"':
            self.begun += b'"'
            return self._finish(), end + 1
        end += rest[:1] == b"\\"
        raise Unreadable(end, f"a string may not contain {show(packet[end])}")

    def _finish(self) -> bytes:
        token = bytes(self.begun)
        self.begun.clear()
        return token


def skip_blanks(packet: bytes, at: int) -> int:
    """Index of the first byte at or behind ``at`` that is no white space."""
    return _end(_BLANKS, packet, at)


def _end(pattern: re.Pattern[bytes], packet: bytes, at: int) -> int:
    """Where ``pattern``, matched at ``at``, ends; ``at`` where it does not match."""
    match = pattern.match(packet, at)
    return match.end() if match else at

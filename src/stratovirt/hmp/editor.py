"""Line editing: keys in, echo and finished lines out.

The law: no I/O here; the lines are the same however the input is cut. Whether it is echoed depends on the
cut: a terminal in raw mode sends keys as they are typed, and CR for Enter, and shows nothing by itself;
one in cooked mode (``ncat -U``) sends whole lines that end in LF and have been shown already.
"""

from __future__ import annotations

import codecs
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# QEMU's READLINE_CMD_BUF_SIZE and READLINE_MAX_CMDS (include/qemu/readline.h).
MAX_LINE = 4095
MAX_HISTORY = 64

# A key's escape sequence (ECMA-48 §5.4, and SS3 as terminals in application mode send it), or a character.
# Without its final byte a sequence is a key that does nothing.
_KEY = re.compile(r"\x1b(?:\[[0-?]{0,16}[@-~]?|O[@-~]?)?|.", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[0-?]{0,16}|O)?\Z")

CRLF = "\r\n"
BELL = "\a"

Complete = Callable[[str], list[str]]
"""Text up to the cursor to the words that its last one may become."""


@dataclass(frozen=True)
class Line:
    """A finished line."""

    text: str


class Editor:
    """One line at a time, behind a prompt, with a history."""

    def __init__(self, prompt: str, complete: Complete) -> None:
        self._prompt = prompt
        self._complete = complete
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unfinished = ""
        self._before = self._after = ""  # the text, parted by the cursor
        self._history: deque[str] = deque(maxlen=MAX_HISTORY)
        self._back = 0  # how far up in the history we are
        self._set_aside = ""  # what was being typed when we went there
        self._last_key = ""

    def feed(self, data: bytes | bytearray) -> Iterator[str | Line]:
        """Text for the terminal, and lines, in the order typed. After a line, its reader shows the prompt.

        Made one by one as they are asked for: each key may draw a whole line.
        """
        cooked = data.endswith(b"\n")
        for key in self._keys(data):
            for item in self._press(key):
                if isinstance(item, Line) or (item and not cooked):
                    yield item

    def _keys(self, data: bytes | bytearray) -> list[str]:
        text = self._unfinished + self._decode(bytes(data))
        unfinished = _UNFINISHED.search(text)
        self._unfinished = unfinished.group() if unfinished else ""
        return _KEY.findall(text[: len(text) - len(self._unfinished)])

    def _press(self, key: str) -> list[str | Line]:
        previous, self._last_key = self._last_key, key
        if key == "\n" and previous == "\r":
            return []
        if key in "\r\n":
            return [CRLF, self._finish()]
        if key in _ACTIONS:
            return [_ACTIONS[key](self)]
        return [self._insert(key)] if key.isprintable() else []

    def _finish(self) -> Line:
        text = self._before + self._after
        if text.strip() and text not in list(self._history)[-1:]:
            self._history.append(text)
        self._back = 0
        self._replace("")
        return Line(text)

    def _insert(self, text: str) -> str:
        if len(self._before) + len(self._after) + len(text) > MAX_LINE:
            return BELL
        self._before += text
        return self._redraw() if self._after else text

    def _replace(self, text: str) -> str:
        self._before, self._after = text, ""
        return self._redraw()

    def _redraw(self) -> str:
        left = f"\x1b[{len(self._after)}D" if self._after else ""
        return f"\r{self._prompt}{self._before}{self._after}\x1b[K{left}"

    def _backspace(self) -> str:
        self._before = self._before[:-1]
        return self._redraw()

    def _delete(self) -> str:
        self._after = self._after[1:]
        return self._redraw()

    def _kill_before(self) -> str:
        self._before = ""
        return self._redraw()

    def _kill_after(self) -> str:
        self._after = ""
        return self._redraw()

    def _kill_word(self) -> str:
        self._before = re.sub(r"\S+\s*\Z", "", self._before)
        return self._redraw()

    def _abandon(self) -> str:
        self._back = 0
        self._replace("")
        return f"^C{CRLF}{self._prompt}"

    def _left(self) -> str:
        self._before, self._after = self._before[:-1], self._before[-1:] + self._after
        return self._redraw()

    def _right(self) -> str:
        self._before, self._after = self._before + self._after[:1], self._after[1:]
        return self._redraw()

    def _home(self) -> str:
        self._before, self._after = "", self._before + self._after
        return self._redraw()

    def _end(self) -> str:
        return self._replace(self._before + self._after)

    def _older(self) -> str:
        if self._back == len(self._history):
            return ""
        if self._back == 0:
            self._set_aside = self._before + self._after
        self._back += 1
        return self._replace(self._history[-self._back])

    def _newer(self) -> str:
        if self._back == 0:
            return ""
        self._back -= 1
        return self._replace(self._history[-self._back] if self._back else self._set_aside)

    def _tab(self) -> str:
        words = self._complete(self._before)
        if not words:
            return ""
        typed = len(self._before.rpartition(" ")[2])
        more = os.path.commonprefix(words)[typed:]  # noqa: RUF071 - of characters indeed
        if len(words) == 1:
            more += " "
        return self._insert(more) if more else CRLF + "  ".join(words) + CRLF + self._redraw()


_ACTIONS: dict[str, Callable[[Editor], str]] = {
    **dict.fromkeys(["\x01", "\x1b[H", "\x1bOH", "\x1b[1~"], Editor._home),
    **dict.fromkeys(["\x02", "\x1b[D", "\x1bOD"], Editor._left),
    "\x03": Editor._abandon,
    **dict.fromkeys(["\x04", "\x1b[3~"], Editor._delete),
    **dict.fromkeys(["\x05", "\x1b[F", "\x1bOF", "\x1b[4~"], Editor._end),
    **dict.fromkeys(["\x06", "\x1b[C", "\x1bOC"], Editor._right),
    **dict.fromkeys(["\b", "\x7f"], Editor._backspace),
    "\t": Editor._tab,
    "\x0b": Editor._kill_after,
    "\x0c": Editor._redraw,
    **dict.fromkeys(["\x0e", "\x1b[B", "\x1bOB"], Editor._newer),
    **dict.fromkeys(["\x10", "\x1b[A", "\x1bOA"], Editor._older),
    "\x15": Editor._kill_before,
    "\x17": Editor._kill_word,
}

"""The line editor does what hands expect, and any bytes at all leave it in order."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.hmp.editor import MAX_HISTORY, MAX_LINE, Editor, Line

PROMPT = "> "
WORDS = ["status", "stop", "system_powerdown", "system_reset"]
UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"


def editor() -> Editor:
    return Editor(PROMPT, lambda text: [word for word in WORDS if word.startswith(text.split(" ")[-1])])


def feed(some: Editor, typed: bytes) -> list[str | Line]:
    return list(some.feed(typed))


def lines(found: list[str | Line]) -> list[str]:
    return [item.text for item in found if isinstance(item, Line)]


def echo(found: list[str | Line]) -> str:
    return "".join(item for item in found if isinstance(item, str))


class Screen:
    """The last row of a terminal: enough of one to know what a person sees there."""

    def __init__(self) -> None:
        self.row, self.column = PROMPT, len(PROMPT)

    def show(self, text: str) -> None:
        for piece in re.findall(r"\x1b\[\d*[A-Z]|.", text, re.DOTALL):
            if piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.row = ""
            elif piece == "\x1b[K":
                self.row = self.row[: self.column]
            elif piece.endswith("D") and piece.startswith("\x1b["):
                self.column -= int(piece[2:-1])
            elif piece != "\a":
                self.row = self.row[: self.column] + piece + self.row[self.column + 1 :]
                self.column += 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (b"stop\r", "stop"),
        (b"stop\n", "stop"),
        (b"stop\r\n", "stop"),
        (b"stpo\x7f\x7fop\r", "stop"),
        (b"stpo\b\bop\r", "stop"),
        (b"\x7fstop\r", "stop"),
        (b"garbage\x15stop\r", "stop"),
        (b"garbage\x03stop\r", "stop"),
        (b"\x04stop\r", "stop"),
        (b"xstop" + LEFT * 4 + b"\x7f\r", "stop"),
        (b"top" + LEFT * 9 + b"s\r", "stop"),
        (b"sop" + LEFT * 2 + b"t\r", "stop"),
        (b"sop" + LEFT * 3 + RIGHT + b"t\r", "stop"),
        (b"top\x01s\x05 \r", "stop "),
        (b"op\x1b[Hst\x1b[F!\r", "stop!"),
        (b"stoxp" + LEFT * 2 + b"\x1b[3~\r", "stop"),
        (b"stoxp" + LEFT * 2 + b"\x04\r", "stop"),
        (b"stop it" + LEFT * 3 + b"\x0b\r", "stop"),
        (b"stop it\x17\r", "stop "),
        (b"sto\x00\x1b[99;5u\x1b[Zp\r", "stop"),
        (b"\x1b\rstop\r", "stop"),
        ("größe\r".encode(), "größe"),
        (b"gr\xfc\r", "gr�"),
        (b"sto\t\r", "stop "),
        (b"sy\tr\t\r", "system_reset "),
        (b"info s\tto\t\r", "info stop "),
        (b"frob\t\r", "frob"),
    ],
)
def test_keys_edit_the_line(typed: bytes, line: str) -> None:
    assert lines(feed(editor(), typed))[-1] == line


def test_the_arrows_bring_back_earlier_lines_and_the_one_that_was_begun() -> None:
    some = editor()
    feed(some, b"one\rtwo\rtwo\r \rbegun")
    assert lines(feed(some, UP + b"\r")) == ["two"]
    feed(some, b"begun")
    assert lines(feed(some, UP + UP + b"\r")) == ["one"]
    feed(some, b"begun" + UP * 9 + DOWN * 9)
    assert lines(feed(some, DOWN + b"!\r")) == ["begun!"]


def test_the_history_is_bounded() -> None:
    some = editor()
    for number in range(MAX_HISTORY + 10):
        feed(some, b"%d\r" % number)
    assert lines(feed(some, UP * (MAX_HISTORY + 99) + b"\r")) == ["10"]


def test_a_line_is_bounded_and_the_bell_says_so() -> None:
    some = editor()
    assert "\a" not in echo(feed(some, b"x" * MAX_LINE))
    assert echo(feed(some, b"y")) == "\a"
    assert lines(feed(some, b"\r")) == ["x" * MAX_LINE]


def test_keys_are_echoed_as_they_are_typed() -> None:
    some = editor()
    assert [echo(feed(some, key)) for key in (b"s", b"t")] == ["s", "t"]
    assert echo(feed(some, b"\r")) == "\r\n"


def test_whole_lines_have_been_echoed_by_the_terminal_that_sent_them() -> None:
    assert feed(editor(), b"stop\ncont\n") == [Line("stop"), Line("cont")]


def test_ctrl_c_leaves_the_line_and_shows_a_new_prompt() -> None:
    assert echo(feed(editor(), b"stop\x03")).endswith(f"^C\r\n{PROMPT}")


def test_tab_lists_what_it_cannot_decide_and_shows_the_line_again() -> None:
    some = editor()
    feed(some, b"st")
    shown = echo(feed(some, b"\t"))
    assert "\r\nstatus  stop\r\n" in shown
    assert f"{PROMPT}st" in shown


def test_ctrl_l_draws_the_line_anew() -> None:
    assert f"\r{PROMPT}sto" in echo(feed(editor(), b"sto\x0c"))


KEYS = st.lists(
    st.one_of(
        st.sampled_from([UP, DOWN, LEFT, RIGHT, b"\t", b"\r", b"\n", b"\x1b", b"\x1b[", b"\x1bO", b"\x03"]),
        st.sampled_from([bytes([code]) for code in range(32)]),
        st.sampled_from([b"stop", b"info ", "ä".encode(), b"\xc3", b"\x1b[3~", b"\x1b[1111111111111111111"]),
        st.binary(max_size=6),
    ),
    max_size=30,
).map(b"".join)


@given(KEYS, st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_the_cuts(typed: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(typed)) for cut in cuts), len(typed)]
    some = editor()
    pieces = [feed(some, typed[start:end]) for start, end in pairwise(edges)]
    assert [line for piece in pieces for line in lines(piece)] == lines(feed(editor(), typed))


@given(st.binary(max_size=500))
def test_any_bytes_give_printable_lines(typed: bytes) -> None:
    for line in lines(feed(editor(), typed + b"\r")):
        assert line.isprintable() or line == ""
        assert len(line) <= MAX_LINE


@given(KEYS)
def test_the_screen_shows_the_line_that_enter_will_send(typed: bytes) -> None:
    some, screen = editor(), Screen()
    for byte in typed.replace(b"\n", b"") + b".":  # the dot ends what was begun: a key, a character
        for item in feed(some, bytes([byte])):
            screen.show(item if isinstance(item, str) else PROMPT)
    shown = screen.row
    assert shown.startswith(PROMPT)
    assert lines(feed(some, b"\r"))[0] == shown.removeprefix(PROMPT)

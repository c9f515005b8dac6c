"""The words of an error line: lists of alternatives, the nearest name, text made fit for one line."""

from collections.abc import Iterable

# Longest part of an option's value that an error repeats: the line stays readable in a terminal.
SHOWN = 160

# Longest word that is compared with known names; difflib is quadratic.
COMPARED = 64


def alternatives(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def shown(text: str) -> str:
    """``text`` on one line, whatever it holds, and not too long."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    import difflib  # 5 ms that only a mistake pays

    matches = difflib.get_close_matches(word[:COMPARED], list(known), n=1)
    return matches[0] if matches else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """How an error about an unknown name goes on: the nearest one, else all of them."""
    names = list(known)
    meant = nearest(word, names)
    if meant:
        return f"did you mean {meant}?"
    return f"use {alternatives(names)}" if names else "none is defined"

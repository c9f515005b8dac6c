"""A result for eyes: a list as a table, an object as two columns, everything else as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "


def show(result: Any, width: int) -> str:
    """The text for ``result``; empty for an empty object, which is QMP's "done".

    :param width: columns of the terminal. A table that does not fit becomes a list of its rows.
    """
    match result:
        case dict():
            return _pairs(flatten(result))
        case [dict(), *_] if all(isinstance(row, dict) for row in result):
            return _table([flatten(row) for row in result], width)
        case list():
            return "\n".join(map(_cell, result))
    return _cell(result).rstrip("\r\n")


def columns(words: Sequence[str], width: int) -> str:
    """Words in columns, as ``ls`` sets them."""
    if not words:
        return ""
    cell = max(map(len, words)) + len(_GAP)
    height = -(-len(words) // max(1, width // cell))
    rows = ("".join(word.ljust(cell) for word in words[row::height]).rstrip() for row in range(height))
    return "\n".join(rows)


def flatten(item: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values by dotted name, as text."""
    flat: dict[str, str] = {}
    for name, value in item.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = _cell(value)
    return flat


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(item: Mapping[str, str]) -> str:
    longest = max(map(len, item), default=0)
    return "\n".join(f"{name.ljust(longest)}{_GAP}{value}" for name, value in item.items())


def _table(rows: Sequence[Mapping[str, str]], width: int) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "-") for name in names] for row in rows)]
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if sum(sizes) + len(_GAP) * (len(sizes) - 1) > width and len(names) > 1:
        return "\n\n".join(map(_pairs, rows))
    return "\n".join(
        _GAP.join(cell.ljust(size) for cell, size in zip(line, sizes, strict=True)).rstrip() for line in lines
    )

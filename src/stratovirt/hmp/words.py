"""How the rest of a line becomes a QMP command's arguments.

The law: only the form is looked at here. Which names and values are allowed is the schema's to say; where
clients send a number or switch as text, the schema takes it as text, so properties stay as typed.
"""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)", re.ASCII)
_MIB = 20  # bits
_MAX_INTEGER = (1 << 63) - 1  # of QMP's integers, the most that could come over the wire


class Misused(Exception):
    """A line is not of its command's form; the text says what is wrong."""


def nothing(rest: str) -> dict[str, Any]:
    """For commands without arguments.

    :raises Misused: there is text.
    """
    if rest:
        raise Misused("extraneous characters at the end of line")
    return {}


def device_id(rest: str) -> dict[str, Any]:
    """One word, the ``id``.

    :raises Misused: none, or more than one.
    """
    words = rest.split()
    if not words:
        raise Misused("string expected")
    nothing(" ".join(words[1:]))
    return {"id": words[0]}


def mebibytes(rest: str) -> dict[str, Any]:
    """One number of MiB, hexadecimal with 0x: the ``value`` in bytes.

    :raises Misused: it is no number, or not one that QMP could carry.
    """
    if not _NUMBER.fullmatch(rest):
        raise Misused("a number of MiB expected")
    value = int(rest, 16 if "x" in rest.lower() else 10) << _MIB
    if abs(value) > _MAX_INTEGER:
        raise Misused("integer is too large")
    return {"value": value}


def device(rest: str) -> dict[str, Any]:
    """``driver[,prop=value][,...]``, as -device takes it.

    :raises Misused: an item is not of this form.
    """
    return _properties("driver", rest)


def netdev(rest: str) -> dict[str, Any]:
    """``type[,prop=value][,...]``, as -netdev takes it.

    :raises Misused: an item is not of this form.
    """
    return _properties("type", rest)


def _properties(first: str, rest: str) -> dict[str, Any]:
    """``prop=value[,...]``, the first may be the value of ``first`` alone; ``,,`` is a comma."""
    arguments: dict[str, Any] = {}
    for position, item in enumerate(_items(rest)):
        name, equals, value = item.partition("=")
        if not equals and position:
            raise Misused(f"prop=value expected, not '{item}'")
        arguments |= {name: value} if equals else {first: item}
    return arguments


def _items(text: str) -> list[str]:
    """The parts between single commas, less the empty ones."""
    items = [""]
    for part in re.split("(,+)", text):
        if not part.startswith(","):
            items[-1] += part
            continue
        items[-1] += "," * (len(part) // 2)
        if len(part) % 2:
            items.append("")
    return [item for item in items if item]

"""How the rest of a line becomes a QMP command's arguments.

The law: only the form is looked at here. Which names and values are allowed is the schema's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)", re.ASCII)
_SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}

Properties = Mapping[str, Mapping[str, Any]]
"""The schema of each argument of a command, by name."""


class Misused(Exception):
    """A line is not of its command's form; the text says what is wrong."""


def nothing(rest: str, properties: Properties) -> dict[str, Any]:
    """For commands without arguments.

    :raises Misused: there is text.
    """
    if rest:
        raise Misused("extraneous characters at the end of line")
    return {}


def device_id(rest: str, properties: Properties) -> dict[str, Any]:
    """One word, the ``id``.

    :raises Misused: none, or more than one.
    """
    words = rest.split()
    if not words:
        raise Misused("string expected")
    nothing(" ".join(words[1:]), properties)
    return {"id": words[0]}


def mebibytes(rest: str, properties: Properties) -> dict[str, Any]:
    """One number, of MiB: the ``value`` in bytes.

    :raises Misused: it is no number.
    """
    if not _NUMBER.fullmatch(rest):
        raise Misused("a number of MiB expected")
    return {"value": _integer(rest) << 20}


def device(rest: str, properties: Properties) -> dict[str, Any]:
    """``driver[,prop=value][,...]``, as -device takes it; ``,,`` stands for a comma.

    :raises Misused: an item is not of this form.
    """
    arguments: dict[str, Any] = {}
    for position, item in enumerate(_items(rest)):
        name, equals, value = item.partition("=")
        if not equals and position:
            raise Misused(f"prop=value expected, not '{item}'")
        name, value = (name, value) if equals else ("driver", item)
        arguments[name] = _typed(value, properties.get(name, {}))
    return arguments


def _items(text: str) -> list[str]:
    """Split at single commas."""
    parts = re.split(r"(,+)", text)
    items, current = [], ""
    for part in parts:
        if not part.startswith(","):
            current += part
            continue
        current += "," * (len(part) // 2)
        if len(part) % 2:
            items.append(current)
            current = ""
    return [item for item in [*items, current] if item]


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """``text`` as the JSON type that ``schema`` asks for; as it is where that cannot be."""
    wanted = schema.get("type")
    if wanted == "integer" and _NUMBER.fullmatch(text):
        return _integer(text)
    if wanted == "boolean":
        return _SWITCH.get(text, text)
    return text


def _integer(text: str) -> int:
    """Hexadecimal with 0x, else decimal."""
    return int(text, 16 if "x" in text.lower() else 10)

"""What is typed: ``command key=value …``, as qmp-shell has it, or a whole request in JSON.

The law: a value that reads as JSON is that value, anything else is a string; quotes make a string of
what would be a number. A dot in a name goes into an object: ``file.driver=file``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

Request = tuple[str, dict[str, Any]]
"""A command and its arguments."""

_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"\S+")
_KEY_OF_JSON = re.compile(r"[^\s={\[\"]+=(?=[{\[\"])")


class Mistyped(Exception):
    """A line that cannot be understood; the text says where."""


def split(line: str) -> list[str]:
    """The words of a line; a JSON value may have blanks in it.

    :raises Mistyped: a JSON value that has no end.
    """
    words = []
    at = _end(_BLANKS, line, 0)
    while at < len(line):
        end = _end_of_word(line, at)
        words.append(line[at:end])
        at = _end(_BLANKS, line, end)
    return words


def parse(words: Sequence[str], is_name: Callable[[str, str], bool] = lambda command, key: False) -> Request:
    """The request that ``words`` stand for; there is at least one.

    :param is_name: has this command an argument with this name, its dots being part of it?
    :raises Mistyped: they make no request.
    """
    command, *assignments = words
    if command.startswith("{"):
        return _whole(" ".join(words))
    arguments: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not key or not equals:
            raise Mistyped(f"{assignment!r} is not key=value")
        path = [key] if "." not in key or is_name(command, key) else key.split(".")
        _put(arguments, path, value(text))
    return command, arguments


def value(text: str) -> Any:
    """The JSON value that ``text`` is, or ``text``."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _whole(text: str) -> Request:
    try:
        request = json.loads(text)
    except ValueError as error:
        raise Mistyped(f"this is no JSON: {error}") from None
    match request:
        case {"execute": str(command), **rest} if rest.keys() <= {"arguments"}:
            arguments = rest.get("arguments", {})
            if isinstance(arguments, dict):
                return command, arguments
    raise Mistyped('a request is {"execute": "command", "arguments": {…}}')


def _put(arguments: dict[str, Any], path: list[str], item: Any) -> None:
    *parents, last = path
    inner: Any = arguments
    for name in parents:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Mistyped(f"{name!r} is a value and an object at once")
    if last in inner:
        raise Mistyped(f"{'.'.join(path)!r} is given twice")
    inner[last] = item


def _end_of_word(line: str, at: int) -> int:
    key = _KEY_OF_JSON.match(line, at)
    begin = key.end() if key else at
    if line[begin] not in '{["':
        return _end(_WORD, line, at)
    try:
        end = json.JSONDecoder().raw_decode(line, begin)[1]
    except ValueError as error:
        raise Mistyped(f"this is no JSON: {error}") from None
    return _end(_WORD, line, end)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at

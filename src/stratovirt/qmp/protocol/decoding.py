"""What a string or word token means, strictly.

The law: nothing that another JSON reader would take for something else gets through. Refused are NaN
and Infinity, numbers that overflow a double, integers beyond 64 bits, unpaired surrogates, invalid
UTF-8 and unknown escapes. The framing survives all of these: they are defects of a value whose end is
known.
"""

from __future__ import annotations

import json
import math
import re

# QEMU's two integer types, int64 and uint64 (docs/devel/qapi-code-gen.rst): a larger number would lose
# digits in the clients that read it back.
INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1
_INTEGER_DIGITS = len(str(INTEGER_MAX))

_NUMBER = re.compile(r"-?(?P<digits>0|[1-9][0-9]*)(?P<real>(\.[0-9]+)?([eE][-+]?[0-9]+)?)\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LITERALS = {b"true": True, b"false": False, b"null": None}
_SHOWN = 40  # characters of a bad token that an error quotes


class Defect(Exception):
    """A token that stands for no value; the text says why."""


def decode_string(token: bytes) -> str:
    """The text of a string token.

    :raises Defect: invalid UTF-8, an unknown escape or an unpaired surrogate.
    """
    try:
        text: str = json.loads(token.decode())
    except UnicodeDecodeError:
        raise Defect(f"the string {_quote(token)} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Defect(f"the string {_quote(token)} cannot be read: {error.msg}") from None
    if _SURROGATE.search(text):
        raise Defect(f"the string {_quote(token)} has an unpaired surrogate")
    return text


def decode_word(token: bytes) -> bool | int | float | None:
    """The value of a number or literal token.

    :raises Defect: it is neither, or a number that is out of range.
    """
    if token in _LITERALS:
        return _LITERALS[token]
    text = token.decode("ascii")
    number = _NUMBER.match(text)
    if number is None:
        raise Defect(f"{_quote(token)} is no JSON value")
    return _real(text) if number["real"] else _integer(text, len(number["digits"]))


def _integer(text: str, digits: int) -> int:
    # Counted first: Python itself refuses to read integers of more than 4,300 digits.
    value = int(text) if digits <= _INTEGER_DIGITS else None
    if value is None or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise Defect(f"the integer {_quote(text.encode())} does not fit in 64 bits")
    return value


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Defect(f"the number {_quote(text.encode())} is out of range")
    return value


def _quote(token: bytes) -> str:
    text = token.decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

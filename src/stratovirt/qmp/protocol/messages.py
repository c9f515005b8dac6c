"""The envelopes of QMP: requests in; greeting, replies, errors and events out.

The law: keys go out in the order of the manual, without white space, each message ended by CR LF; an
``id`` goes back to the letter, on errors too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stratovirt.qmp.protocol.framing import Garbage, Message

END = b"\r\n"
REQUEST_KEYS = ("execute", "arguments", "id")

# Clients decode error classes into closed enumerations (Kuasar's qapi): no others may go out.
ERROR_CLASSES = ("GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap")

# The QEMU release that clients take this server for: kata's govmm and libvirt ask for 5.0 or later.
QEMU_VERSION = {"micro": 1, "minor": 0, "major": 5}

Id = bytes | None
"""JSON text of a request's id; None when there was none."""


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed envelope; if the command exists and likes its arguments is not known yet."""

    command: str
    arguments: dict[str, Any]
    id: Id = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Input that is no request and gets a GenericError with this text."""

    desc: str
    id: Id = None


def read(piece: Message | Garbage) -> Request | Refusal:
    """The request that a piece of input stands for."""
    if isinstance(piece, Garbage):
        return Refusal(f"QMP input: {piece.problem}", piece.id_text)
    if piece.defect is not None:
        return Refusal(f"QMP input: {piece.defect}", piece.id_text)
    problem = _problem(piece.value)
    if problem is not None:
        return Refusal(f"QMP request: {problem}", piece.id_text)
    return Request(piece.value["execute"], piece.value.get("arguments", {}), piece.id_text)


def _problem(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"a request is a JSON object, not {kind(value)}"
    for key in value:
        if key not in REQUEST_KEYS:
            return f"unknown key {quote(key)}{nearest(key, REQUEST_KEYS)}"
    if "execute" not in value:
        return "the key 'execute' is missing"
    for key, wanted in (("execute", str), ("arguments", dict)):
        if not isinstance(value.get(key, wanted()), wanted):
            return f"'{key}' is {kind(value[key])}, not {kind(wanted())}"
    return None


def encode(value: Any) -> bytes:
    """JSON without white space, in ASCII.

    :raises TypeError, ValueError: ``value`` has no JSON form.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def greeting(version: str) -> bytes:
    """The line that opens every connection."""
    return encode({"QMP": {"version": version_info(version), "capabilities": []}}) + END


def reply(result: bytes, id: Id) -> bytes:
    """A reply around an encoded result."""
    return _answer(b'{"return":' + result, id)


def error(error_class: str, desc: str, id: Id) -> bytes:
    """An error reply."""
    return _answer(b'{"error":' + encode({"class": error_class, "desc": desc}), id)


def event(name: str, data: dict[str, Any], microseconds: int) -> bytes:
    """An event; ``microseconds`` is the wall clock's time since 1970."""
    seconds, rest = divmod(microseconds, 1_000_000)
    stamp = {"seconds": seconds, "microseconds": rest}
    return encode({"event": name, "data": data, "timestamp": stamp}) + END


def version_info(version: str) -> dict[str, Any]:
    """The version object of the greeting and of query-version.

    Both keys are there: the manual shows ``StratoVirt``, clients of QEMU look for ``qemu``.
    """
    major, minor, micro = (int(part) for part in version.split("."))
    return {
        "StratoVirt": {"micro": micro, "minor": minor, "major": major},
        "qemu": QEMU_VERSION,
        "package": f"StratoVirt-{version}",
    }


def kind(value: Any) -> str:
    """What a JSON value is, with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def quote(name: str, limit: int = 64) -> str:
    """A client's word in quotes, cut to a length that fits in a sentence."""
    return f"'{name}'" if len(name) <= limit else f"'{name[:limit]}…'"


def nearest(name: str, names: tuple[str, ...] | list[str]) -> str:
    """`` (did you mean 'x'?)`` if ``name`` looks like one of ``names``, else nothing."""
    import difflib  # 17 ms that only a mistyped name has to pay

    found = difflib.get_close_matches(name[:64], names, n=1)
    return f" (did you mean '{found[0]}'?)" if found else ""


def _answer(body: bytes, id: Id) -> bytes:
    return body + (b"" if id is None else b',"id":' + id) + b"}" + END

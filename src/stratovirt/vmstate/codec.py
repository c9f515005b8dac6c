"""The file of a machine's state: one line that says what follows, then the sections as JSON.

::

    stratovirt-state 1 4711 9f86d081…          format, length and SHA-256 of the rest
    [{"name":"machine","version":1,"state":{…}}, …]

The law: bytes that were changed, cut or appended are refused before they are understood, and said so. In
JSON, bytes stand as ``{"base64": "…"}``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from stratovirt.errors import SnapshotError

FORMAT = 1
HEADER = re.compile(rb"stratovirt-state (\d{1,9}) (\d{1,18}) ([0-9a-f]{64})\n")
MAX_HEADER = 128
_BYTES_KEY = "base64"


class Section(NamedTuple):
    """What one part of the machine has saved.

    :ivar version: of ``state``, counted by the part itself.
    :ivar state: plain values.
    """

    name: str
    version: int
    state: dict[str, Any]


def encode(sections: Sequence[Section]) -> bytes:
    """The file's contents.

    :raises TypeError: a section holds something else than plain values.
    """
    document = [section._asdict() for section in sections]
    body = json.dumps(document, default=_encode_bytes, separators=(",", ":"), allow_nan=False).encode()
    digest = hashlib.sha256(body).hexdigest()
    return f"stratovirt-state {FORMAT} {len(body)} {digest}\n".encode() + body


def decode(data: bytes) -> list[Section]:
    """The sections of a file.

    :raises SnapshotError: it is no such file, of another format, or damaged.
    """
    header = HEADER.match(data[:MAX_HEADER])
    if header is None:
        raise SnapshotError("not a StratoVirt state: its first line is something else")
    if int(header[1]) != FORMAT:
        raise SnapshotError(f"format {int(header[1])} is unknown; this version reads format {FORMAT}")
    body = data[header.end() :]
    if len(body) != int(header[2]):
        raise SnapshotError(
            f"its first line says that {int(header[2])} bytes follow, but there are {len(body)}"
        )
    digest = hashlib.sha256(body).hexdigest()
    if digest.encode() != header[3]:
        raise SnapshotError(f"damaged: its SHA-256 is {digest}, its first line says {header[3].decode()}")
    return _sections(body)


def _sections(body: bytes) -> list[Section]:
    try:
        return [_section(entry) for entry in json.loads(body, object_hook=_decode_bytes)]
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(f"its sections cannot be read: {error}") from error


def _section(entry: dict[str, Any]) -> Section:
    section = Section(**entry)
    if not isinstance(section.name, str) or not isinstance(section.state, dict):
        raise TypeError(f"{section.name!r} is no section")
    if type(section.version) is not int:
        raise TypeError(f"section {section.name} has version {section.version!r}")
    return section


def _encode_bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes | bytearray):
        return {_BYTES_KEY: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _decode_bytes(value: dict[str, Any]) -> Any:
    if value.keys() == {_BYTES_KEY}:
        return base64.b64decode(value[_BYTES_KEY], validate=True)
    return value

"""A client's side of QMP without I/O: requests to bytes, bytes to greeting, replies and events.

The law: each request has a number of its own as its ``id``, and a reply belongs to the request whose
number it carries, whatever the order of arrival. Servers end every message with a line feed, so a line is
a message (as in libvirt, qemu.qmp and govmm); what is no message ends the conversation, because nothing
behind it can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from stratovirt.client.limits import MAX_REPLY
from stratovirt.errors import QmpCommandError, QmpDisconnected
from stratovirt.qmp.protocol.messages import END, encode

CLOSED = "the server has closed the connection"
_SHOWN = 60  # bytes of a line that is no message which its error quotes


@dataclass(frozen=True, slots=True)
class Greeting:
    """The line that opens a connection.

    :ivar version: the version object, as the server sent it.
    :ivar capabilities: what the server offers to enable.
    """

    version: dict[str, Any]
    capabilities: list[Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to the machine.

    :ivar timestamp: the server's wall clock, in seconds since 1970; negative where it had none.
    """

    name: str
    data: dict[str, Any]
    timestamp: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request.

    :ivar id: the request's number; None when the server could not read it.
    :ivar error: ``(class, desc)`` when the command was refused.
    """

    id: int | None
    result: Any = None
    error: tuple[str, str] | None = None

    def value(self, command: str) -> Any:
        """The ``return`` value.

        :raises QmpCommandError: the server refused ``command``.
        """
        if self.error is not None:
            raise QmpCommandError(*self.error, command)
        return self.result


T = TypeVar("T")
Message = Greeting | Reply | Event


class Conversation:
    """The two directions of one connection."""

    def __init__(self) -> None:
        self._last_id = 0
        self._rest = bytearray()

    def request(self, command: str, arguments: Mapping[str, Any]) -> tuple[int, bytes]:
        """A new request: its number, and what to send.

        :raises TypeError, ValueError: the arguments have no JSON form.
        """
        following = self._last_id + 1
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = dict(arguments)
        data = encode({**message, "id": following}) + END
        self._last_id = following
        return following, data

    def receive(self, data: bytes) -> list[Message]:
        """The messages that end in ``data``.

        :raises QmpDisconnected: the server sent what is no QMP message.
        """
        *ended, rest = data.split(b"\n")
        lines = [bytes(self._rest) + ended[0], *ended[1:]] if ended else []
        if ended:
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > MAX_REPLY:
            raise QmpDisconnected(f"the server sent a message of more than {MAX_REPLY} bytes")
        return [_read(line) for line in lines if not line.isspace() and line]


def broken(error: BaseException) -> str:
    """Why a connection has ended that an ``error`` ended."""
    # A server that exits without reading our last line feed resets the connection: QEMU, at quit.
    return CLOSED if isinstance(error, ConnectionResetError) else f"the connection broke: {error}"


def _read(line: bytes) -> Message:
    try:
        return _message(json.loads(line))
    except (ValueError, LookupError, TypeError, RecursionError):
        shown = line[:_SHOWN].decode("utf-8", "backslashreplace")
        raise QmpDisconnected(f"the server sent what is no QMP message: {shown}") from None


def _message(message: dict[str, Any]) -> Message:
    if "return" in message:
        return Reply(_id(message), result=message["return"])
    if "error" in message:
        error = message["error"]
        return Reply(_id(message), error=(_a(str, error["class"]), _a(str, error["desc"])))
    if "event" in message:
        return Event(_a(str, message["event"]), _a(dict, message.get("data", {})), _seconds(message))
    return Greeting(_a(dict, message["QMP"]["version"]), _a(list, message["QMP"]["capabilities"]))


def _id(message: dict[str, Any]) -> int | None:
    return None if "id" not in message else _a(int, message["id"])


def _seconds(message: dict[str, Any]) -> float:
    stamp = message["timestamp"]
    return _a(int, stamp["seconds"]) + _a(int, stamp["microseconds"]) / 1_000_000


def _a(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value

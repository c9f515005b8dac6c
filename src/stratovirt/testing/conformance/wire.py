"""The checks' end of a connection: raw bytes out, and every line that comes back held against the envelope.

Source: QEMU, docs/interop/qmp-spec.rst, 2.1 to 2.5.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from stratovirt.testing.conformance.dialect import Dialect

Connect = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]
Message = dict[str, Any]

PATIENCE = 10
"""Seconds for the next message: a session that hangs fails its check."""
CHUNK = 65536
END = b"\r\n"
ERROR_CLASSES = {"GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap"}
"""QEMU's QapiErrorClass; clients have it as a closed enumeration."""
MEMBERS: dict[str, set[str]] = {
    "QMP": {"QMP"},
    "return": {"return", "id"},
    "error": {"error", "id"},
    "event": {"event", "data", "timestamp"},
}


class Violation(AssertionError):
    """The server did what the protocol does not allow."""


def require(truth: bool, violated: str) -> None:
    """Fail the check, saying what was violated, unless ``truth``."""
    if not truth:
        raise Violation(violated)


class Wire:
    """One connection.

    :ivar events: those that have been read.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, dialect: Dialect) -> None:
        self.stream = stream
        self.dialect = dialect
        self.events: list[Message] = []
        self._rest = b""
        self._lines: deque[bytes] = deque()

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        await self.stream.send_all(data)

    async def ask(self, command: str, arguments: Message | None = None, **more: Any) -> None:
        """A request, with ``id=…`` if given; its answer is left for later."""
        arguments_if_any = {} if arguments is None else {"arguments": arguments}
        await self.send(json.dumps({"execute": command, **arguments_if_any, **more}).encode())

    async def execute(self, command: str, arguments: Message | None = None, **more: Any) -> Message:
        """A request and its answer, which is returned whole."""
        await self.ask(command, arguments, **more)
        return await self.answer()

    async def answer(self) -> Message:
        """The next ``return`` or ``error``; events on the way go to ``events``."""
        while "event" in (message := await self.message()):
            pass
        require("QMP" not in message, "a second greeting")
        return message

    async def answer_to(self, id: object) -> Message:
        """The answer with that id; errors without one may come before, from what was no request."""
        while (answer := await self.answer()).get("id") != id:
            require("error" in answer and "id" not in answer, f"an answer to nobody: {answer}")
        return answer

    async def message(self) -> Message:
        """The next message of any kind."""
        line = await self._line()
        require(line is not None, "the server closed the connection")
        message = check_envelope(line or b"", self.dialect)
        if "event" in message:
            self.events.append(message)
        return message

    async def rest(self) -> list[Message]:
        """All messages up to the server's end of the connection."""
        messages = []
        while (line := await self._line()) is not None:
            messages.append(check_envelope(line, self.dialect))
        return messages

    async def _line(self) -> bytes | None:
        while not self._lines:
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some(CHUNK)
            if not data:
                require(not self._rest, f"the connection ended within {self._rest!r}")
                return None
            *lines, self._rest = (self._rest + data).split(END)
            self._lines.extend(lines)
        return self._lines.popleft()


class Server:
    """Ways to connect to the server under test."""

    def __init__(self, connect: Connect, dialect: Dialect) -> None:
        self._connect = connect
        self.dialect = dialect

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Wire]:
        """A fresh connection of which nothing has been read; closed without ado at the end of the block.

        A server of one client at a time gets the time to part with it: QEMU turns the next away before.
        """
        stream = await self._connect()
        try:
            yield Wire(stream, self.dialect)
            if not self.dialect.many_clients:
                await _part(stream)
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Wire]:
        """A fresh connection after greeting and negotiation."""
        async with self.raw() as wire:
            require("QMP" in await wire.message(), "the first message is no greeting")
            require((await wire.execute("qmp_capabilities")) == {"return": {}}, "negotiation is refused")
            yield wire

    async def resume(self) -> None:
        """After a check that failed, perhaps while the machine was paused: the next wants it running."""
        async with self.raw() as wire:
            with suppress(trio.BrokenResourceError):
                await wire.send(b'{"execute":"qmp_capabilities"}{"execute":"cont"}')
            await _part(wire.stream)


async def _part(stream: trio.abc.HalfCloseableStream) -> None:
    """Say that nothing more comes, and wait until the server has closed its end, too."""
    with trio.move_on_after(PATIENCE), suppress(trio.BrokenResourceError):
        await stream.send_eof()
        while await stream.receive_some(CHUNK):
            pass


def check_envelope(line: bytes, dialect: Dialect) -> Message:
    """One line as the server sent it, decoded.

    :raises Violation: it is not the JSON object that the protocol promises.
    """
    try:
        message: Message = json.loads(line)
    except ValueError as error:
        raise Violation(f"no JSON: {line!r}: {error}") from error
    require(isinstance(message, dict), f"no JSON object: {line!r}")
    kinds = MEMBERS.keys() & message.keys()
    require(len(kinds) == 1, f"not one of {', '.join(MEMBERS)}: {line!r}")
    kind = kinds.pop()
    require(message.keys() <= MEMBERS[kind], f"members that do not belong there: {line!r}")
    if dialect.compact:
        _check_compact(line, kind, message)
    if kind == "error":
        _check_error(message["error"])
    elif kind == "event":
        _check_event(message, dialect)
    return message


def _check_compact(line: bytes, kind: str, message: Message) -> None:
    require(next(iter(message)) == kind, f"{kind} is not the first member: {line!r}")
    if "id" not in message:  # an id keeps its spelling
        texts = [json.dumps(message, separators=(",", ":"), ensure_ascii=ascii) for ascii in (True, False)]
        require(line in [text.encode() for text in texts], f"white space between tokens: {line!r}")


def _check_error(error: object) -> None:
    if not isinstance(error, dict) or error.keys() != {"class", "desc"}:
        raise Violation(f"an error is an object of class and desc: {error}")
    require(error["class"] in ERROR_CLASSES, f"clients know no error class {error['class']}")
    require(isinstance(error["desc"], str) and error["desc"] != "", f"desc is no sentence: {error}")
    require("Traceback" not in error["desc"], f"a traceback: {error}")


def _check_event(message: Message, dialect: Dialect) -> None:
    require(isinstance(message["event"], str), f"an event's name is no string: {message}")
    require("data" in message or not dialect.data_always, f"an event without data: {message}")
    require(isinstance(message.get("data", {}), dict), f"an event's data is no object: {message}")
    timestamp = message.get("timestamp")
    if not isinstance(timestamp, dict) or timestamp.keys() != {"seconds", "microseconds"}:
        raise Violation(f"a timestamp is an object of seconds and microseconds: {message}")
    require(all(type(value) is int for value in timestamp.values()), f"timestamp: {message}")

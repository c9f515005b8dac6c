"""A QMP client that trusts nothing: whatever it reads is held against ``schemas/``."""

from __future__ import annotations

import functools
import json
from collections import deque
from typing import Any

import trio

from stratovirt.qmp import schemas
from stratovirt.qmp.validation import Validators

# Every command may answer these, whatever its own errors are: bad envelope or arguments, flow control.
ALWAYS = {"GenericError", "CommandNotFound"}
ENVELOPES = (
    ["return"],
    ["return", "id"],
    ["error"],
    ["error", "id"],
    ["event", "data", "timestamp"],
    ["QMP"],
)

# Seconds in which the server must have something to say; a session that hangs fails its test.
PATIENCE = 30


@functools.cache
def validators() -> Validators:
    """Validators of the installed schemas."""
    return Validators(schemas.load())


def check_message(line: bytes, command: str | None = None) -> dict[str, Any]:
    """One line as the server sent it, decoded; raises unless it is what the schemas promise.

    :param command: the command that it answers, where that is known.
    """
    message: dict[str, Any] = json.loads(line)
    assert line == json.dumps(message, separators=(",", ":")).encode() or "id" in message
    assert list(message) in ENVELOPES
    contract = schemas.load()
    if "event" in message:
        validators().of(contract.others["event"]).validate(message)
        validators().of(contract.events[message["event"]], "/data").validate(message["data"])
    elif "QMP" in message:
        validators().of(contract.others["greeting"]).validate(message)
    elif "error" in message:
        validators().of(contract.others["error"]).validate(message)
        allowed = contract.commands[command]["x-errors"] if command in contract.commands else {}
        assert message["error"]["class"] in {*ALWAYS, *allowed}
        assert "Traceback" not in message["error"]["desc"]
    else:
        validators().of(contract.others["reply"]).validate(message)
        if command is not None:
            validators().of(contract.commands[command], "/returns").validate(message["return"])
    return message


class Client:
    """The client's end of a session, over any stream.

    :ivar events: events in the order of their arrival, as far as they have been read.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.events: list[dict[str, Any]] = []
        self._received = bytearray()
        self._lines: deque[bytes] = deque()
        self._asked: deque[str | None] = deque()

    async def greeting(self) -> dict[str, Any]:
        """The first line."""
        message = await self.next()
        assert "QMP" in message, message
        return message

    async def send(self, data: bytes, *commands: str | None) -> None:
        """Raw bytes; ``commands`` are those that answers are expected to."""
        self._asked.extend(commands)
        await self.stream.send_all(data)

    async def ask(self, command: str, arguments: dict[str, Any] | None = None, **more: Any) -> None:
        """Send a command, with ``id=…`` if given, and leave the reply for later."""
        request = {"execute": command, **({} if arguments is None else {"arguments": arguments}), **more}
        await self.send(json.dumps(request).encode(), command)

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Send a command and wait for its reply; events on the way go to ``events``."""
        await self.ask(command, arguments, **more)
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next reply or error, whole."""
        while "event" in (message := await self.next()):
            pass
        return message

    async def event(self) -> dict[str, Any]:
        """The next message, which must be an event."""
        message = await self.next()
        assert "event" in message, message
        return message

    async def next(self) -> dict[str, Any]:
        """The next message of any kind.

        :raises EOFError: the server has closed the connection.
        """
        line = await self._line()
        answers = line.startswith((b'{"return"', b'{"error"'))
        message = check_message(line, self._asked.popleft() if answers and self._asked else None)
        if "event" in message:
            self.events.append(message)
        return message

    async def rest(self) -> list[dict[str, Any]]:
        """All messages up to the end of the connection."""
        messages = []
        while True:
            try:
                messages.append(await self.next())
            except EOFError:
                return messages

    async def _line(self) -> bytes:
        while not self._lines:
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some()
            if not data:
                assert not self._received, f"the connection ended within {bytes(self._received)!r}"
                raise EOFError
            self._received += data
            *lines, rest = bytes(self._received).split(b"\r\n")
            self._lines.extend(lines)
            self._received = bytearray(rest)
        return self._lines.popleft()

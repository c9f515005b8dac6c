"""A QMP user's view of a machine under test, over the client that validates every message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from stratovirt.testing import open_socket
from tests.protocol.client import Client

REPLY_SECONDS = 120  # a snapshot in a nested guest of a busy host takes 40
EVENT_SECONDS = 60


class QmpError(Exception):
    """The machine refused a command; the text is the error's desc."""


class Qmp:
    """One client; ``events`` are those that have come and were not waited for yet."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def events(self) -> list[dict[str, Any]]:
        return self._client.events

    async def execute(self, command: str, **arguments: Any) -> Any:
        """The command's ``return``.

        :raises QmpError: it answered an error.
        """
        with trio.fail_after(REPLY_SECONDS):
            reply = await self._client.execute(command, arguments or None)
        if "error" in reply:
            raise QmpError(reply["error"]["desc"])
        return reply["return"]

    async def wait_event(self, name: str, seconds: float = EVENT_SECONDS) -> dict[str, Any]:
        """The next event of that name; earlier ones of other names are dropped."""
        with trio.fail_after(seconds):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if event["event"] == name:
                        return event
                await self._client.next()


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Qmp]:
    """A client on the monitor socket at ``path``, after its greeting."""
    async with await open_socket(path) as stream:
        client = Client(stream)
        with trio.fail_after(REPLY_SECONDS):
            await client.greeting()
        yield Qmp(client)

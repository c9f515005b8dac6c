"""A QMP client that remembers what was said, for the report of the test that fails."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from stratovirt.client import Event, QmpClient
from stratovirt.errors import QmpError
from stratovirt.testing.process import START_SECONDS


class RecordedQmp(QmpClient):
    """The client of :mod:`stratovirt.client`, with a transcript."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self._said: list[tuple[float, str]] = []

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        **more: Any,
    ) -> Any:
        """As :meth:`QmpClient.execute`."""
        self._say(f"-> {command} {json.dumps({**(arguments or {}), **more})}")
        try:
            result = await super().execute(command, arguments, timeout=timeout, fds=fds, **more)
        except QmpError as error:
            self._say(f"<- {type(error).__name__}: {error}")
            raise
        self._say(f"<- {json.dumps(result)}")
        return result

    def hear(self, event: Event) -> None:
        """Write an event down, at the place in the transcript that its time gives it."""
        self._said.append((event.timestamp, f"<- {event.name} {json.dumps(event.data)}"))

    def transcript(self) -> str:
        """A line for each request, reply and event, in the order of their time."""
        return "\n".join(text for _, text in sorted(self._said, key=lambda said: said[0]))

    def _say(self, text: str) -> None:
        self._said.append((time.time(), text))


@asynccontextmanager
async def recorded(stream: trio.abc.Stream) -> AsyncIterator[RecordedQmp]:
    """A recorded client at a server that has perhaps only just begun to listen."""
    async with RecordedQmp.over(stream, timeout=START_SECONDS) as client, client.events() as events:
        try:
            yield client
        finally:
            for event in events.waiting():
                client.hear(event)

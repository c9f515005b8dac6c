"""The trio client: many tasks execute commands over one connection.

The law: a request is sent whole or not at all, and its sender may vanish at any moment – cancelled, or
out of time – without harm to the connection: the late reply is dropped. One task reads and one writes.
When the connection ends, everybody who waits gets :exc:`QmpDisconnected` with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import trio

from stratovirt.client import conversation, descriptors
from stratovirt.client.conversation import Conversation, Event, Greeting, Message, Reply
from stratovirt.client.limits import CONNECT_SECONDS, MAX_WAITING
from stratovirt.client.mailbox import Mailbox
from stratovirt.client.outgoing import Outgoing, family
from stratovirt.client.scopes import deadline, ungrouped
from stratovirt.client.subscription import Subscription
from stratovirt.errors import QmpCommandError, QmpConnectError, QmpDisconnected


@dataclass
class _Waiter:
    """Somebody who waits for an answer; without one when the connection has ended."""

    replied: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None


class QmpClient:
    """A connection to a QMP server, after its negotiation.

    :ivar greeting: what the server said at first.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.greeting: Greeting
        self._stream = stream
        self._conversation = Conversation()
        self._waiting: dict[int, _Waiter] = {}
        self._subscriptions: set[Subscription] = set()
        self._greeted = _Waiter()
        self._ended = trio.Event()
        self._reason = "the connection has been closed"
        # Without a buffer: whoever is cancelled before the writer takes the request takes it back.
        self._requests, self._to_write = trio.open_memory_channel[Outgoing](0)

    @classmethod
    @asynccontextmanager
    async def over(
        cls, stream: trio.abc.Stream, *, timeout: float | None = CONNECT_SECONDS
    ) -> AsyncIterator[Self]:
        """A client over any stream, which is closed at the end of the block.

        :param timeout: seconds for the greeting and the negotiation.
        :raises QmpConnectError: what answers is not QMP, or refuses this client.
        :raises QmpTimeout: the server does not answer.
        """
        client = cls(stream)
        with ungrouped():
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(client._converse)
                try:
                    with deadline(timeout, "greeting and negotiation"):
                        await client._negotiate()
                    yield client
                finally:
                    nursery.cancel_scope.cancel()

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
        """Execute a command; returns the reply's ``return`` value.

        Any number of tasks may do so at the same time.

        :param arguments: arguments by name, for names that are no Python identifiers;
            others can be given as keywords.
        :param timeout: seconds to wait for the reply.
        :param fds: file descriptors that go with the request (SCM_RIGHTS). They stay the caller's.
        :raises QmpCommandError: the server refused.
        :raises QmpTimeout: no reply in time. The command may still be carried out.
        :raises QmpDisconnected: the connection has ended.
        :raises TypeError, ValueError: the arguments have no JSON form; fds over what is no unix socket.
        :raises OSError: one of ``fds`` is not open.
        """
        given = {**(arguments or {}), **more}
        with deadline(timeout, f"reply to {command}"):
            return (await self._ask(command, given, fds)).value(command)

    async def execute_and_wait(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        event: str,
        timeout: float | None = None,
        **more: Any,
    ) -> Event:
        """Execute a command and wait for the first event of that name since; returns the event.

        :param timeout: seconds for both.
        :raises: what :meth:`execute` raises.
        """
        async with self.events(event) as events:
            with deadline(timeout, f"reply to {command} and event {event}"):
                await self.execute(command, arguments, **more)
                return await events.get()

    @asynccontextmanager
    async def events(self, *names: str, limit: int = MAX_WAITING) -> AsyncIterator[Subscription]:
        """Subscribe to events of these names, or to all; those since the block was entered.

        :param limit: events that wait at most; beyond it the oldest are dropped.
        """
        subscription = Subscription(Mailbox(names, limit), lambda: self._reason)
        self._subscriptions.add(subscription)
        if self._ended.is_set():
            subscription.end()
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    async def wait_disconnected(self) -> str:
        """Wait until the connection has ended, as it does when the machine has quit; returns the reason."""
        await self._ended.wait()
        return self._reason

    async def _negotiate(self) -> None:
        try:
            await self._greeted.replied.wait()
            if self._greeted.reply is not None:
                self._greeted.reply.value("connect")
            if self._ended.is_set():
                raise QmpDisconnected(self._reason)
            await self.execute("qmp_capabilities")
        except (QmpCommandError, QmpDisconnected) as error:
            raise QmpConnectError(f"no QMP connection: {error}") from error

    async def _ask(self, command: str, arguments: Mapping[str, Any], fds: Sequence[int]) -> Reply:
        if self._ended.is_set():
            raise QmpDisconnected(self._reason)
        descriptors.check(fds, family(self._stream))
        id, data = self._conversation.request(command, arguments)
        request = Outgoing.of(data, fds)
        self._waiting[id] = waiter = _Waiter()
        try:
            await self._send(request)
            await waiter.replied.wait()
        finally:
            del self._waiting[id]
        if waiter.reply is None:
            raise QmpDisconnected(self._reason)
        return waiter.reply

    async def _send(self, request: Outgoing) -> None:
        try:
            await self._requests.send(request)
        except BaseException as error:
            request.close()
            if isinstance(error, trio.BrokenResourceError):
                raise QmpDisconnected(self._reason) from None
            raise

    async def _converse(self) -> None:
        """Read and write until the connection ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                self._reason = await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._end()

    async def _write(self) -> None:
        with self._to_write, suppress(trio.BrokenResourceError):  # the reader finds out why
            async for request in self._to_write:
                with request:
                    await request.send(self._stream)

    async def _read(self) -> str:
        """Hand out what comes; returns why nothing more does."""
        try:
            while data := await self._stream.receive_some():
                for message in self._conversation.receive(bytes(data)):
                    self._deliver(message)
        except trio.BrokenResourceError as error:
            return conversation.broken(error.__cause__ or error)
        except QmpDisconnected as error:
            return str(error)
        return conversation.CLOSED

    def _deliver(self, message: Message) -> None:
        if isinstance(message, Event):
            for subscription in self._subscriptions:
                subscription.offer(message)
        elif isinstance(message, Greeting):
            self.greeting = message
            self._greeted.replied.set()
        elif (waiter := self._waiter(message)) is not None:
            waiter.reply = message
            waiter.replied.set()

    def _waiter(self, reply: Reply) -> _Waiter | None:
        """Who waits for a reply; nobody if its sender has given up."""
        if not self._greeted.replied.is_set():
            return self._greeted  # in place of a greeting: the server is full
        return None if reply.id is None else self._waiting.get(reply.id)

    def _end(self) -> None:
        self._ended.set()
        self._greeted.replied.set()
        for waiter in self._waiting.values():
            waiter.replied.set()
        for subscription in self._subscriptions:
            subscription.end()

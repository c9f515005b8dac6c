"""The blocking client and its subscriptions, over a plain socket.

The law: bytes are read only while somebody waits, by whoever waits; one thread at a time. A request that
ran out of time half sent is sent to its end before the next.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Self

from stratovirt.client import conversation, descriptors
from stratovirt.client.conversation import Conversation, Event, Greeting, Message, Reply
from stratovirt.client.limits import CONNECT_SECONDS, MAX_WAITING
from stratovirt.client.mailbox import Mailbox
from stratovirt.errors import QmpCommandError, QmpConnectError, QmpDisconnected, QmpTimeout

_PACKET = 1 << 16


class Deadline:
    """A moment, and what is awaited until then."""

    def __init__(self, seconds: float | None, awaited: str) -> None:
        limit = math.inf if seconds is None else seconds
        self._text = f"{awaited}: nothing within {limit:.3g} s"
        self._end = time.monotonic() + limit

    def left(self) -> float | None:
        """Seconds until then; None is for ever, as sockets have it.

        :raises QmpTimeout: it is over.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise QmpTimeout(self._text)
        return None if math.isinf(left) else left


class QmpClient:
    """A connection to a QMP server, after its negotiation.

    :ivar greeting: what the server said at first.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.greeting: Greeting
        self._greeted = False
        self._socket = sock
        self._conversation = Conversation()
        self._unsent = b""
        self._awaited: int | None = None
        self._reply: Reply | None = None
        self._listeners: list[Callable[[Event], object]] = []
        self._reason: str | None = None

    @classmethod
    @contextmanager
    def over(cls, sock: socket.socket, *, timeout: float | None = CONNECT_SECONDS) -> Iterator[Self]:
        """A client over a connected socket, which is closed at the end of the block.

        :param timeout: seconds for the greeting and the negotiation.
        :raises QmpConnectError: what answers is not QMP, or refuses this client.
        :raises QmpTimeout: the server does not answer.
        """
        with sock:
            client = cls(sock)
            client._negotiate(Deadline(timeout, "greeting and negotiation"))
            yield client

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        **more: Any,
    ) -> Any:
        """Execute a command; parameters, result and exceptions are those of the trio client's."""
        given = {**(arguments or {}), **more}
        return self._execute(command, given, fds, Deadline(timeout, f"reply to {command}"))

    def execute_and_wait(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        event: str,
        timeout: float | None = None,
        **more: Any,
    ) -> Event:
        """Execute a command and wait for the first event of that name since; returns the event."""
        deadline = Deadline(timeout, f"reply to {command} and event {event}")
        with self.events(event) as events:
            self._execute(command, {**(arguments or {}), **more}, (), deadline)
            return events.until(deadline)

    @contextmanager
    def events(self, *names: str, limit: int = MAX_WAITING) -> Iterator[Subscription]:
        """Subscribe to events of these names, or to all; those since the block was entered.

        :param limit: events that wait at most; beyond it the oldest are dropped.
        """
        mailbox = Mailbox(names, limit)
        with self.listening(mailbox.put):
            yield Subscription(mailbox, self._pump)

    @contextmanager
    def listening(self, heard: Callable[[Event], object]) -> Iterator[None]:
        """Have ``heard`` called with every event as it is read, within any method that waits."""
        self._listeners.append(heard)
        try:
            yield
        finally:
            self._listeners.remove(heard)

    def wait_disconnected(self, *, timeout: float | None = None) -> str:
        """Wait until the connection has ended, as it does when the machine has quit; returns the reason.

        :raises QmpTimeout: it has not in time.
        """
        deadline = Deadline(timeout, "end of the connection")
        try:
            while True:
                self._pump(deadline.left())
        except QmpDisconnected as error:
            return str(error)

    def fileno(self) -> int:
        """The socket's descriptor, for select and event loops: readable when :meth:`poll` has work."""
        return self._socket.fileno()

    def poll(self) -> None:
        """Take in what has arrived, without waiting: subscriptions have it then.

        :raises QmpDisconnected: the connection has ended.
        """
        self._pump(0)

    def _negotiate(self, deadline: Deadline) -> None:
        try:
            while not self._greeted:
                self._pump(deadline.left())
            self._execute("qmp_capabilities", {}, (), deadline)
        except (QmpCommandError, QmpDisconnected) as error:
            raise QmpConnectError(f"no QMP connection: {error}") from error

    def _execute(
        self, command: str, arguments: Mapping[str, Any], fds: Sequence[int], deadline: Deadline
    ) -> Any:
        if self._reason is not None:
            raise QmpDisconnected(self._reason)
        descriptors.check(fds, self._socket.family)
        self._awaited, request = self._conversation.request(command, arguments)
        self._reply = None
        self._send(request, fds, deadline)
        return self._wait_reply(deadline).value(command)

    def _wait_reply(self, deadline: Deadline) -> Reply:
        while self._reply is None:
            self._pump(deadline.left())
        return self._reply

    def _send(self, request: bytes, fds: Sequence[int], deadline: Deadline) -> None:
        """Send a request. A timeout takes it back, or, once it has begun, leaves its rest to the next."""
        self._flush(deadline)
        self._unsent = request[self._write(request, fds, deadline) :]
        self._flush(deadline)

    def _flush(self, deadline: Deadline) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._write(self._unsent, (), deadline) :]

    def _write(self, data: bytes, fds: Sequence[int], deadline: Deadline) -> int:
        """Send what there is room for; the descriptors go with the first byte."""
        while True:
            self._socket.settimeout(deadline.left())
            try:
                return socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
            except TimeoutError:
                continue  # the deadline says what was awaited
            except OSError:
                return len(data)  # nobody reads it; reading says why

    def _pump(self, seconds: float | None) -> None:
        """Wait for a packet, at most so long, and hand out what it brings.

        :raises QmpDisconnected: it brings the end, now or before.
        """
        if self._reason is not None:
            raise QmpDisconnected(self._reason)
        self._socket.settimeout(seconds)
        try:
            self._take_in(self._socket.recv(_PACKET))
        except (TimeoutError, BlockingIOError):
            return
        except OSError as error:
            self._end(conversation.broken(error))
        except QmpDisconnected as error:
            self._end(str(error))

    def _take_in(self, data: bytes) -> None:
        if not data:
            raise QmpDisconnected(conversation.CLOSED)
        for message in self._conversation.receive(data):
            self._deliver(message)

    def _end(self, reason: str) -> NoReturn:
        self._reason = reason
        raise QmpDisconnected(reason)

    def _deliver(self, message: Message) -> None:
        if isinstance(message, Event):
            for heard in self._listeners:
                heard(message)
        elif isinstance(message, Greeting):
            self.greeting, self._greeted = message, True
        elif not self._greeted:
            message.value("connect")  # an error in place of a greeting: the server is full
        elif message.id == self._awaited:
            self._reply = message


class Subscription:
    """An iterator over events; made by :meth:`QmpClient.events`.

    Its end is not silent: after the last event iteration raises :exc:`QmpDisconnected`.
    """

    def __init__(self, mailbox: Mailbox, pump: Callable[[float | None], None]) -> None:
        self._mailbox = mailbox
        self._pump = pump

    @property
    def dropped(self) -> int:
        """Events that were lost because nobody took them in time."""
        return self._mailbox.dropped

    def waiting(self) -> list[Event]:
        """Take the events that have come and that nobody has got yet, without waiting for more."""
        return [self._mailbox.take() for _ in range(len(self._mailbox))]

    def get(self, *, timeout: float | None = None) -> Event:
        """The next event.

        :param timeout: seconds to wait for it.
        :raises QmpTimeout: none came in time.
        :raises QmpDisconnected: the connection has ended and no event is left.
        """
        return self.until(Deadline(timeout, str(self._mailbox)))

    def until(self, deadline: Deadline) -> Event:
        """The next event, before a deadline that began earlier."""
        while not self._mailbox:
            self._pump(deadline.left())
        return self._mailbox.take()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return self.get()

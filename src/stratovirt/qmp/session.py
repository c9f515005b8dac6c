"""One client: a reader that answers requests in order, and a writer that sends what waits.

The law: whatever a client does – vanish, half-close, send garbage, never read – it costs that client
only. A command that has begun is finished even if its client is gone. Replies and the events that a
command published before it returned leave in one send, because nothing between the handler's last
line and the outbox gives the writer a turn.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import trio

from stratovirt.errors import CommandError
from stratovirt.machine.events import Event, ShutDown
from stratovirt.qmp import events
from stratovirt.qmp.descriptors import RightsStream, with_rights
from stratovirt.qmp.dispatcher import Dispatcher
from stratovirt.qmp.flow import RATE, Throttle, TokenBucket
from stratovirt.qmp.outbox import Outbox
from stratovirt.qmp.protocol import Connection, Refusal, Request, State

log = logging.getLogger(__name__)

# Bytes read at once. Parsing the worst 8 KiB (all brackets) takes 20 ms, in which nobody else is served.
READ_SIZE = 1 << 13
# Seconds in which a client must take what is being sent, or be dropped.
STUCK = 30
# Seconds a client has to read why it is being hung up on. Precedent: nginx's lingering_timeout.
LINGER = 5
# What a stream may raise when its other end, or this session's writer, is done with it.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

RATE_LIMIT = f"QMP rate limit: {RATE} commands per second, send it again later"


@dataclass(frozen=True)
class SessionStatistics:
    """A session's counters at one moment.

    :ivar client: the client's name in the log.
    :ivar requests: requests that were read, malformed ones included.
    :ivar errors: how many of them were answered with an error.
    :ivar events_waiting: events in the queue.
    :ivar events_dropped: events that the client was too slow for.
    :ivar reply_bytes_waiting: bytes of replies in the queue.
    """

    client: str
    requests: int
    errors: int
    events_waiting: int
    events_dropped: int
    reply_bytes_waiting: int


class Session:
    """A client on ``stream``, from greeting to end.

    :param name: what the log calls it.
    """

    def __init__(
        self, stream: trio.abc.Stream, dispatcher: Dispatcher, throttle: Throttle, name: str
    ) -> None:
        self._stream = with_rights(stream)
        self._received = self._stream.received if isinstance(self._stream, RightsStream) else None
        self._dispatcher = dispatcher.for_client(self._received)
        self._throttle = throttle
        self._name = name
        self._bucket = TokenBucket(trio.current_time())
        self._connection = Connection()
        self._outbox = Outbox()
        self._input_ended = False
        self._requests = 0
        self._errors = 0

    def statistics(self) -> SessionStatistics:
        """The counters now."""
        return SessionStatistics(
            client=self._name,
            requests=self._requests,
            errors=self._errors,
            events_waiting=self._outbox.events_waiting,
            events_dropped=self._outbox.events_dropped,
            reply_bytes_waiting=self._outbox.reply_bytes_waiting,
        )

    async def run(self) -> None:
        """Serve the client until it or the server ends the connection; closes the stream."""
        context = self._dispatcher.context
        self._outbox.put_reply(self._connection.greet(context.version))
        try:
            with context.control.events.subscribed(self._note):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    self._outbox.close()
            if not self._input_ended:
                await self._linger()
        finally:
            self._outbox.abandon()
            if self._received is not None:
                self._received.close()
            await trio.aclose_forcefully(self._stream)
            self._report()

    async def flushed(self) -> None:
        """Wait until all that is due has been sent."""
        await self._outbox.flushed()

    def _note(self, event: Event) -> None:
        """Queue an event. SHUTDOWN goes alone: clients that read once per reply would lose it."""
        name, data = events.wire(event)
        line = self._connection.event(name, data, time.time_ns() // 1000)
        dropped = self._outbox.put_event(line, alone=isinstance(event, ShutDown))
        if dropped and self._outbox.events_dropped == 1:
            log.warning("%s does not keep up: its oldest events are being dropped", self._name)

    async def _read(self) -> None:
        while self._connection.state is State.OPEN:
            try:
                packet = bytes(await self._stream.receive_some(READ_SIZE))
            except GONE:
                await self._hang_up()
                return
            if self._hung_up:  # by the writer, while this packet was on its way
                return
            self._input_ended = not packet
            for request in self._connection.receive(packet):
                await self._answer(request)

    async def _answer(self, request: Request | Refusal) -> None:
        """Give ``request`` its one reply, if there is still somebody to give it to."""
        await self._outbox.room()
        admitted = await self._admitted()
        if self._lost:
            return
        self._requests += 1
        if not admitted:
            self._refuse(RATE_LIMIT)
        elif isinstance(request, Refusal):
            self._refuse(request.desc)
        else:
            await self._execute(request)

    async def _admitted(self) -> bool:
        """Is there a token for the next request? With DELAY there is one, sooner or later."""
        # Either way a checkpoint: a client with a long pipeline must let the others have their turn.
        if self._throttle is Throttle.REJECT:
            await trio.lowlevel.checkpoint()
            return self._bucket.take(trio.current_time())
        await trio.sleep(self._bucket.reserve(trio.current_time()))
        return True

    async def _execute(self, request: Request) -> None:
        try:
            outcome = await self._dispatcher.run(request)
        except CommandError as error:
            self._refuse(error.desc, error.error_class)
            return
        # No checkpoint since the handler returned: its events are still in the outbox.
        self._outbox.put_reply(self._connection.reply(outcome.result))
        if outcome.then is not None:
            outcome.then()

    def _refuse(self, desc: str, error_class: str = "GenericError") -> None:
        self._errors += 1
        self._outbox.put_reply(self._connection.refuse(desc, error_class))

    async def _write(self) -> None:
        while batch := await self._outbox.next_batch():
            try:
                with trio.fail_after(STUCK):
                    await self._stream.send_all(batch)
            except GONE:
                await self._hang_up()
            except trio.TooSlowError:
                log.warning("%s has not read for %d s and is dropped", self._name, STUCK)
                await self._hang_up()

    async def _linger(self) -> None:
        """Say that this is the end, and wait for the client to see it.

        A TCP connection that is closed over unread input is reset, and the last reply lost with it.
        """
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(LINGER):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(READ_SIZE):
                    pass
            except GONE:
                pass  # it has gone first

    @property
    def _lost(self) -> bool:
        return self._hung_up and self._connection.owed > 0

    @property
    def _hung_up(self) -> bool:
        return self._connection.state is State.CLOSED

    async def _hang_up(self) -> None:
        """The client is gone, or as good as gone."""
        self._connection.lost()
        self._outbox.abandon()
        await trio.aclose_forcefully(self._stream)  # wakes the reader

    def _report(self) -> None:
        if dropped := self._outbox.events_dropped:
            log.warning("%s was too slow for %d events in all", self._name, dropped)

"""All clients of one machine.

The law: a client that fails, by its own fault or by ours, takes nobody with it. Every task runs in the
nursery of the ``serve_client`` call that it belongs to.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

import stratovirt
from stratovirt.machine.control import MachineControl
from stratovirt.qmp import schemas
from stratovirt.qmp.catalog import NOTHING, Catalog
from stratovirt.qmp.commands import HANDLERS
from stratovirt.qmp.descriptors import Named
from stratovirt.qmp.dispatcher import Dispatcher
from stratovirt.qmp.flow import Throttle
from stratovirt.qmp.handler import Context, Handler, Reply
from stratovirt.qmp.protocol import messages
from stratovirt.qmp.registry import Registry
from stratovirt.qmp.session import GONE, Session, SessionStatistics

log = logging.getLogger(__name__)

# Over all monitors: enough for a fleet of pollers, and clients cannot eat the descriptors that disks need
# (QEMU serves one client per monitor and has no such limit to follow).
MAX_CLIENTS = 1024
# Seconds for a last word to a client that is not let in, and for all clients at the end.
FAREWELL = 5


class QmpServer:
    """Serves QMP for ``control`` to any number of clients on any kind of stream.

    :param catalog, human_monitor: see :class:`stratovirt.qmp.handler.Context`.
    :raises RegistryError: schemas and handlers do not match.
    """

    def __init__(
        self,
        control: MachineControl,
        *,
        version: str = stratovirt.__version__,
        catalog: Catalog = NOTHING,
        handlers: Iterable[Handler] = HANDLERS,
        max_clients: int = MAX_CLIENTS,
        human_monitor: Callable[[str], Awaitable[Reply]] | None = None,
    ) -> None:
        self.registry = Registry(schemas.load(), handlers)
        self.dispatcher = Dispatcher(
            Context(control, self.registry, version, catalog, Named(), human_monitor=human_monitor)
        )
        self._max_clients = max_clients
        self._sessions: dict[Session, trio.CancelScope] = {}
        self._served = 0
        self._closing = False

    def statistics(self) -> list[SessionStatistics]:
        """The counters of every client that is connected."""
        return [session.statistics() for session in self._sessions]

    async def serve_client(self, stream: trio.abc.Stream, *, throttle: Throttle = Throttle.DELAY) -> None:
        """Serve one client to its end, and close ``stream``. Raises nothing but cancellation."""
        self._served += 1
        name = f"QMP client {self._served}"
        if self._closing or len(self._sessions) >= self._max_clients:
            await self._turn_away(stream, name)
            return
        session = Session(stream, self.dispatcher, throttle, name)
        scope = self._sessions[session] = trio.CancelScope()
        try:
            with scope:
                await session.run()
        except* Exception as failure:
            log.error("%s: its session failed; the others go on", name, exc_info=failure)
        finally:
            del self._sessions[session]

    async def flushed(self) -> None:
        """Wait until every client has been sent what it is due: up to 30 s if one is stuck."""
        for session in tuple(self._sessions):
            await session.flushed()

    async def close(self, patience: float = FAREWELL) -> None:
        """Let nobody in any more, send what is due for at most ``patience`` seconds, then hang up.

        Returns when every session has been told to end; their ``serve_client`` calls return next.
        """
        self._closing = True
        with trio.move_on_after(patience):
            await self.flushed()
        for scope in self._sessions.values():
            scope.cancel()
        self.dispatcher.context.named.close()

    async def _turn_away(self, stream: trio.abc.Stream, name: str) -> None:
        why = "the server is shutting down" if self._closing else f"{self._max_clients} are connected"
        log.warning("%s is not let in: %s", name, why)
        try:
            with trio.move_on_after(FAREWELL):
                await stream.send_all(messages.error("GenericError", f"QMP: no more clients: {why}", None))
        except GONE:
            pass  # it did not want to know
        finally:
            await trio.aclose_forcefully(stream)

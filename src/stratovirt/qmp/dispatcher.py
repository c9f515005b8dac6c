"""Requests to handlers: one request in, one outcome out, whatever happens in between.

The law: commands that change the machine hold the turn, one at a time over all clients; the others never
wait. No checkpoint between a handler's last line and the return to the session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Handler, Reply
from stratovirt.qmp.protocol import Request
from stratovirt.qmp.protocol.messages import encode

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A command that succeeded: its encoded result, and what is to follow the reply."""

    result: bytes
    then: Callable[[], None] | None


class Dispatcher:
    """Shared by all clients of a machine."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = trio.Lock()

    async def run(self, request: Request) -> Outcome:
        """Carry out ``request``.

        :raises CommandError: it is refused; also when its handler fails unexpectedly, which is logged.
        """
        command = self._context.registry.find(request.command)
        arguments = self._context.registry.typed(command, request.arguments)
        try:
            reply = await self._call(command.handler, arguments)
            return Outcome(encode(reply.value), reply.then)
        except CommandError:
            raise
        except Exception as error:
            log.exception("command %s failed", request.command)
            raise CommandError(
                f"{request.command}: internal error ({type(error).__name__}), see the log"
            ) from error

    async def _call(self, handler: Handler, arguments: object) -> Reply:
        if not handler.changes_machine:
            return await handler.run(self._context, arguments)
        async with self._turn:
            return await handler.run(self._context, arguments)

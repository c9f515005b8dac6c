"""Requests to handlers: one request in, one outcome out, whatever happens in between.

The law: no checkpoint between a handler's last line and the return to the session. Nothing waits here:
the machine's control makes those that change the machine take turns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from stratovirt.errors import CommandError
from stratovirt.qmp.descriptors import Received
from stratovirt.qmp.handler import Context
from stratovirt.qmp.protocol import Request
from stratovirt.qmp.protocol.messages import encode

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A command that succeeded: its encoded result, and what is to follow the reply."""

    result: bytes
    then: Callable[[], None] | None


class Dispatcher:
    """For one client, or for all that send no descriptors."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def context(self) -> Context:
        """What handlers see."""
        return self._context

    def for_client(self, received: Received | None) -> Dispatcher:
        """The dispatcher of a client whose descriptors are ``received``."""
        return Dispatcher(replace(self._context, received=received))

    async def run(self, request: Request) -> Outcome:
        """Carry out ``request``.

        :raises CommandError: it is refused; also when its handler fails unexpectedly, which is logged.
        """
        command = self._context.registry.find(request.command)
        arguments = self._context.registry.typed(command, request.arguments)
        try:
            reply = await command.handler.run(self._context, arguments)
            return Outcome(encode(reply.value), reply.then)
        except CommandError:
            raise
        except Exception as error:
            log.exception("command %s failed", request.command)
            raise CommandError(
                f"{request.command}: internal error ({type(error).__name__}), see the log"
            ) from error

"""The check that nothing comes after: ``quit``."""

from __future__ import annotations

from contextlib import AsyncExitStack

from stratovirt.testing.conformance.wire import Message, Server, require

BY_QUIT = {"guest": False, "reason": "host-qmp-quit"}


async def quit_is_answered_then_everybody_is_told_and_the_connections_end(server: Server) -> None:
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(server.session())
        others = [await stack.enter_async_context(server.session())] if server.dialect.many_clients else []
        require(await wire.execute("quit", id="last") == {"return": {}, "id": "last"}, "quit is refused")
        for each in (wire, *others):
            _require_shutdown([*each.events, *await each.rest()])


def _require_shutdown(messages: list[Message]) -> None:
    told = [message["data"] for message in messages if message.get("event") == "SHUTDOWN"]
    require(told == [BY_QUIT], f"SHUTDOWN is not told once, with {BY_QUIT}: {messages}")

"""Checks of flow control, where the dialect has it."""

from __future__ import annotations

import json

import trio

from stratovirt.testing.conformance.wire import Message, Server, Wire, require

EXCESS = 50
"""Commands beyond what the server takes at once."""
MORE = 900
"""The same where they are to be refused: so many that a slow server's bucket cannot fill meanwhile."""


async def too_many_commands_are_treated_as_the_dialect_says(server: Server) -> None:
    throttle = server.dialect.throttle
    if throttle is None:
        return
    start = trio.current_time()  # the bucket is full when the session begins, so not before this
    async with server.session() as wire:
        excess = MORE if throttle.rejects else EXCESS
        commands = throttle.capacity + excess
        answers = await _pipelined(wire, commands)
        ids = [answer.get("id") for answer in answers]
        require(ids == list(range(commands)), f"ids that were answered: {ids}")
        refused = sum("error" in answer for answer in answers)
        if throttle.rejects:
            require(0 < refused <= excess + 1, f"{refused} of {commands} commands are refused")
        else:
            seconds, due = trio.current_time() - start, excess / throttle.rate
            require(refused == 0, f"{refused} of {commands} commands are refused, not delayed")
            require(seconds >= due, f"{commands} commands in {seconds:.2f} s: they are due in {due:.2f} s")


async def a_client_in_overflow_leaves_others_their_rate(server: Server) -> None:
    throttle = server.dialect.throttle
    if throttle is None or not server.dialect.many_clients:
        return
    async with server.session() as greedy, server.session() as other:
        await greedy.send(_requests(throttle.capacity + EXCESS))
        require("return" in await other.execute("query-status"), "another client is refused")
        last = throttle.capacity + EXCESS - 1
        while (await greedy.answer()).get("id") != last:
            pass


async def _pipelined(wire: Wire, commands: int) -> list[Message]:
    await wire.send(_requests(commands))
    return [await wire.answer() for _ in range(commands)]


def _requests(commands: int) -> bytes:
    return "".join(json.dumps({"execute": "query-status", "id": id}) for id in range(commands)).encode()


CHECKS = (
    too_many_commands_are_treated_as_the_dialect_says,
    a_client_in_overflow_leaves_others_their_rate,
)

"""Checks of a session's events and end, and of sessions beside and after each other."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stratovirt.testing.conformance.wire import Server, Wire, require

CLOCK_SECONDS = 60
"""Between an event's timestamp and this host's clock; the server may be on another."""
PIPELINE = 60


async def stop_and_cont_tell_their_events_before_they_answer(server: Server) -> None:
    async with server.session() as wire:
        for command, event in (("stop", "STOP"), ("cont", "RESUME")):
            require((await wire.execute(command)) == {"return": {}}, f"{command} is refused")
            names = [message["event"] for message in wire.events]
            require(names == [event], f"events before the answer to {command}: {names}")
            off = abs(wire.events.pop()["timestamp"]["seconds"] - time.time())
            require(off < CLOCK_SECONDS, f"{event} is {off:.0f} s off this host's clock")


async def stop_while_paused_is_treated_as_the_dialect_says(server: Server) -> None:
    async with server.session() as wire, _paused(wire):
        answer = await wire.execute("stop")
        require(("error" in answer) == server.dialect.repeated_stop_refused, f"{answer}")
        require(wire.events == [], f"an event though nothing happened: {wire.events}")


async def query_status_tells_paused_from_running(server: Server) -> None:
    async with server.session() as wire:
        async with _paused(wire):
            status = (await wire.execute("query-status"))["return"]
            require((status["status"], status["running"]) == ("paused", False), f"while paused: {status}")
        status = (await wire.execute("query-status"))["return"]
        require((status["status"], status["running"]) == ("running", True), f"after cont: {status}")


async def after_a_half_close_all_is_answered_and_the_connection_ends(server: Server) -> None:
    async with server.session() as wire:
        requests = [{"execute": "query-status", "id": number} for number in range(PIPELINE)]
        await wire.send("".join(map(json.dumps, requests)).encode())
        await wire.stream.send_eof()
        ids = [message.get("id") for message in await wire.rest()]
        require(ids == list(range(PIPELINE)), f"ids that were answered: {ids}")


async def a_client_may_vanish_at_any_moment(server: Server) -> None:
    if not server.dialect.many_clients:
        return  # the next client is turned away until it is noticed
    pipeline = b'{"execute":"query-status"}' * PIPELINE
    for sent in (b"", b"{", b'{"execute":"query-st', b"garbage", pipeline, pipeline[:-1]):
        async with server.raw() as wire:
            await wire.send(sent)
    async with server.session() as wire:
        require("return" in await wire.execute("query-status"), "the server has not survived")


async def a_new_connection_knows_nothing_of_the_last(server: Server) -> None:
    async with server.session() as wire:
        await wire.execute("stop")
        await wire.execute("cont")
        await wire.send(b'{"execute":"query-version","id":"of the last"')
    async with server.session() as wire:
        answer = await wire.execute("query-status", id="new")
        require(answer.get("id") == "new", f"{answer}")
        require(wire.events == [], f"old events: {wire.events}")


async def every_client_is_told_every_event(server: Server) -> None:
    if not server.dialect.many_clients:
        return
    async with server.session() as first, server.session() as second:
        await first.execute("stop")
        await second.execute("cont")
        for wire in (first, second):
            await wire.execute("query-status")
            names = [message["event"] for message in wire.events]
            require(names == ["STOP", "RESUME"], f"one of two clients was told {names}")


async def a_client_in_the_middle_of_a_request_keeps_nobody_waiting(server: Server) -> None:
    if not server.dialect.many_clients:
        return
    async with server.session() as slow, server.session() as other:
        await slow.send(b'{"execute":"query-')
        require("return" in await other.execute("query-status"), "the other client is refused")
        await slow.send(b'status","id":1}')
        require((await slow.answer()).get("id") == 1, "the slow client's request is lost")


@asynccontextmanager
async def _paused(wire: Wire) -> AsyncIterator[None]:
    """The machine stands still within the block, whose events are those since."""
    require((await wire.execute("stop")) == {"return": {}}, "stop is refused")
    wire.events.clear()
    try:
        yield
    finally:
        require((await wire.execute("cont")) == {"return": {}}, "cont is refused")


CHECKS = (
    stop_and_cont_tell_their_events_before_they_answer,
    stop_while_paused_is_treated_as_the_dialect_says,
    query_status_tells_paused_from_running,
    after_a_half_close_all_is_answered_and_the_connection_ends,
    a_client_may_vanish_at_any_moment,
    a_new_connection_knows_nothing_of_the_last,
    every_client_is_told_every_event,
    a_client_in_the_middle_of_a_request_keeps_nobody_waiting,
)

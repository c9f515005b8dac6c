"""Checks of the way from a stream of bytes to requests, and back from garbage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from stratovirt.client.scopes import ungrouped
from stratovirt.testing.conformance.wire import Server, require

REQUEST = b'{"execute":"query-status","id":"r"}'
DEEP = 100_000
"""Brackets; QEMU's limit is 1,024 (MAX_NESTING of json-streamer.c)."""
GARBAGE = (
    b"hello",
    b'{"execute": query-status}',
    b'{"execute":"query-status",}',
    b'{"id":1 "execute":"query-status"}',
    b'{"execute":"query-status","id":NaN}',
    b'{"execute":"query-status","id":01}',
    b'{"execute":"query-status","id":"\xc3\x28"}',
    b'{"execute":"query-status","id":1,"id":2}',
    b"}",
    b"]",
)
FLUSH = b"\xff"
"""QEMU's guest agent clients send it to get a parser out of whatever it is in."""


async def a_request_may_be_cut_at_every_byte(server: Server) -> None:
    async with server.session() as wire:
        for cut in range(1, len(REQUEST)):
            for part in (REQUEST[:cut], REQUEST[cut:]):
                await wire.send(part)
                await trio.lowlevel.checkpoint()
            answer = await wire.answer()
            require("return" in answer and answer["id"] == "r", f"cut at {cut}: {answer}")


async def a_request_may_come_byte_by_byte(server: Server) -> None:
    async with server.session() as wire:
        for byte in REQUEST:
            await wire.send(bytes([byte]))
            await trio.lowlevel.checkpoint()
        require("return" in await wire.answer(), "it is refused")


async def white_space_around_requests_means_nothing(server: Server) -> None:
    async with server.session() as wire:
        for before, after in ((b"", b"\n"), (b"\n\n \t\r\n", b""), (b" ", b"\r\n\r\n"), (b"\r", b" ")):
            await wire.send(before + REQUEST + after)
            answer = await wire.answer()
            require("return" in answer, f"{before!r} … {after!r}: {answer}")


async def a_long_request_is_taken(server: Server) -> None:
    async with server.session() as wire:
        id = "x" * 100_000
        answer = await wire.execute("query-status", id=id)
        require(answer.get("id") == id, "an id of 100,000 characters does not come back")


async def after_garbage_and_a_new_line_the_session_goes_on(server: Server) -> None:
    async with server.session() as wire:
        for number, garbage in enumerate(GARBAGE):
            await wire.send(garbage + b"\n")
            require("error" in await wire.answer(), f"{garbage!r} is accepted")
            # QEMU still is within the string or object that the garbage began; the flush ends it.
            await wire.send(FLUSH)
            await wire.ask("query-status", id=number)
            require("return" in await wire.answer_to(number), f"no answer after {garbage!r}")


async def a_flush_byte_ends_a_request_that_never_ends(server: Server) -> None:
    async with server.session() as wire:
        for number, begun in enumerate(
            (b'{"execute":"query', b'{"execute":"query-status","arguments":{', b"[[")
        ):
            await wire.send(begun + FLUSH)
            await wire.ask("query-status", id=number)
            require("return" in await wire.answer_to(number), f"no answer after {begun!r}")


async def an_integer_beyond_64_bits_is_treated_as_the_dialect_says(server: Server) -> None:
    async with server.session() as wire:
        await wire.send(b'{"execute":"query-status","id":%d}\n' % (1 << 70))
        answer = await wire.answer()
        require(("error" in answer) == server.dialect.exact_integers, f"{answer}")


async def nesting_without_end_is_an_error(server: Server) -> None:
    async with server.session() as wire, _sending(wire.stream, b"[" * DEEP):
        require("error" in await wire.answer(), "it is accepted")
    async with server.session() as wire:
        require("return" in await wire.execute("query-status"), "the server has not survived")


async def a_message_beyond_the_limit_is_one_error_and_the_end(server: Server) -> None:
    limit = server.dialect.max_message
    if limit is None:
        return
    async with server.session() as wire, _sending(wire.stream, b'{"id":"' + b"x" * (limit + 1)):
        rest = await wire.rest()
        require(["error" in message for message in rest] == [True], f"{rest}")


@asynccontextmanager
async def _sending(stream: trio.abc.SendStream, data: bytes) -> AsyncIterator[None]:
    """Send within the block, as far as the server reads: it may hang up in the middle."""

    async def send() -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(data)

    with ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            yield
            nursery.cancel_scope.cancel()


CHECKS = (
    a_request_may_be_cut_at_every_byte,
    a_request_may_come_byte_by_byte,
    white_space_around_requests_means_nothing,
    a_long_request_is_taken,
    after_garbage_and_a_new_line_the_session_goes_on,
    a_flush_byte_ends_a_request_that_never_ends,
    an_integer_beyond_64_bits_is_treated_as_the_dialect_says,
    nesting_without_end_is_an_error,
    a_message_beyond_the_limit_is_one_error_and_the_end,
)

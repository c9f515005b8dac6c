"""Checks of file descriptors that come with requests (SCM_RIGHTS), where the connection can carry them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from stratovirt.testing.conformance.wire import PATIENCE, Message, Server, Wire, require

NAME = "conformance-fd"


async def getfd_takes_the_descriptor_that_came_with_it_and_closefd_closes_it(server: Server) -> None:
    async with server.session() as wire:
        if not _carries_descriptors(wire):
            return
        with _pipe() as (near, far):
            require(await _getfd(wire, far) == {"return": {}}, "getfd is refused")
            require(await wire.execute("closefd", {"fdname": NAME}) == {"return": {}}, "closefd is refused")
            require(await _is_closed(near), "the descriptor is open after closefd")


async def a_descriptor_of_the_same_name_replaces_the_first(server: Server) -> None:
    async with server.session() as wire:
        if not _carries_descriptors(wire):
            return
        with _pipe() as (first, first_far), _pipe() as (second, second_far):
            for far in (first_far, second_far):
                require(await _getfd(wire, far) == {"return": {}}, "getfd is refused")
            require(await _is_closed(first), "the first descriptor stays open")
            require(await wire.execute("closefd", {"fdname": NAME}) == {"return": {}}, "closefd is refused")
            require(await _is_closed(second), "the second descriptor stays open")


async def names_without_a_descriptor_are_refused(server: Server) -> None:
    async with server.session() as wire:
        for command in ("getfd", "closefd"):
            answer = await wire.execute(command, {"fdname": NAME}, id=command)
            require("error" in answer, f"{command} of nothing is accepted")
            require(answer.get("id") == command, f"{command}: no id: {answer}")


def _carries_descriptors(wire: Wire) -> bool:
    stream = wire.stream
    return isinstance(stream, trio.SocketStream) and stream.socket.family == socket.AF_UNIX


@contextmanager
def _pipe() -> Iterator[tuple[int, list[int]]]:
    """A read end, and a list with the write end, for its owner to empty; both are closed at the end."""
    near, far = os.pipe()
    owned = [far]
    try:
        yield near, owned
    finally:
        for fd in (near, *owned):
            os.close(fd)


async def _getfd(wire: Wire, far: list[int]) -> Message:
    """Hand over the descriptor: with the request, and no copy is kept here."""
    assert isinstance(wire.stream, trio.SocketStream)
    request = json.dumps({"execute": "getfd", "arguments": {"fdname": NAME}}).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, far[0].to_bytes(4, "little"))
    sent = await wire.stream.socket.sendmsg([request], [rights])
    os.close(far.pop())
    await wire.send(request[sent:])
    return await wire.answer()


async def _is_closed(near: int) -> bool:
    """Is nobody left who could write?"""
    with trio.move_on_after(PATIENCE):
        await trio.lowlevel.wait_readable(near)
        return os.read(near, 1) == b""
    return False


CHECKS = (
    getfd_takes_the_descriptor_that_came_with_it_and_closefd_closes_it,
    a_descriptor_of_the_same_name_replaces_the_first,
    names_without_a_descriptor_are_refused,
)

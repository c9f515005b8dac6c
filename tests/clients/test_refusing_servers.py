"""What answers may be no QMP server, or none that wants this client: one error says so."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from stratovirt.client import QmpClient, QmpConnectError, QmpDisconnected, QmpTimeout
from tests.clients.servers import Player, played


async def never(server: Player) -> None:
    await trio.sleep_forever()


async def at_once(server: Player) -> None:
    return


async def something_else(server: Player) -> None:
    await server.stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n")


async def too_many(server: Player) -> None:
    await server.send({"error": {"class": "GenericError", "desc": "too many clients"}})


async def strict(server: Player) -> None:
    await server.send({"QMP": {"version": {}, "capabilities": []}})
    request = await server.request()
    assert request == {"execute": "qmp_capabilities", "id": 1}
    await server.send({"error": {"class": "GenericError", "desc": "not you"}, "id": 1})


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (at_once, "the server has closed the connection"),
        (something_else, "no QMP message: SSH-2.0-OpenSSH_9.2"),
        (too_many, "too many clients"),
        (strict, "not you"),
    ],
)
async def test_no_connection_is_made(play: object, words: str) -> None:
    async with played(play) as stream:  # type: ignore[arg-type]
        with pytest.raises(QmpConnectError, match=words):
            async with QmpClient.over(stream):
                pytest.fail("there is no QMP server")


async def test_a_silent_server_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with played(never) as stream:
        with pytest.raises(QmpTimeout, match="greeting and negotiation: nothing within 10 s"):
            async with QmpClient.over(stream):
                pytest.fail("the server has said nothing")


async def test_a_server_that_breaks_the_protocol_later_is_left_with_the_reason() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        await server.request()
        await server.stream.send_all(b"panic!\r\n")
        await server.stream.receive_some()

    async with played(play) as stream, QmpClient.over(stream) as client:
        with pytest.raises(QmpDisconnected, match="no QMP message: panic!"):
            await client.execute("stop")


async def test_replies_that_nobody_asked_for_are_ignored() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        request = await server.request()
        await server.send({"return": 1, "id": 77}, {"return": 2}, {"error": {"class": "E", "desc": "d"}})
        await server.answer(request, "mine")
        await server.stream.receive_some()

    async with played(play) as stream, QmpClient.over(stream) as client:
        assert await client.execute("query-status") == "mine"

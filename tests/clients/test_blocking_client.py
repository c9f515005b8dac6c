"""The blocking client keeps the trio client's promises, in a program that has no loop."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from stratovirt.client import QmpCommandError, QmpConnectError, QmpDisconnected, QmpTimeout
from stratovirt.client.blocking import QmpClient, connect_tcp, connect_unix
from tests.clients.servers import PATIENCE, Player, connected_pair, event, listening
from tests.protocol.fakes import supervised


async def against(play: Callable[[Player], Awaitable[None]], use: Callable[[QmpClient], None]) -> None:
    """Run ``use`` in a thread, with a client whose server does what ``play`` says, then closes."""
    near, far = connected_pair()

    async def serve() -> None:
        async with far:
            await play(Player(far))

    def program() -> None:
        with QmpClient.over(near, timeout=PATIENCE) as client:
            use(client)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await trio.to_thread.run_sync(program)


async def against_our_server(path: Path, use: Callable[[QmpClient], None]) -> None:
    def program() -> None:
        with connect_unix(path, timeout=PATIENCE) as client:
            use(client)

    async with listening(path):
        await trio.to_thread.run_sync(program)


async def test_commands_refusals_and_events(tmp_path: Path) -> None:
    def use(client: QmpClient) -> None:
        assert client.greeting.version["qemu"]["major"] == 5
        assert client.execute("query-status", timeout=PATIENCE)["running"]
        with pytest.raises(QmpCommandError, match="make-coffee"):
            client.execute("make-coffee", timeout=PATIENCE)
        with client.events("RESUME") as resumes:
            assert client.execute_and_wait("stop", event="STOP", timeout=PATIENCE).name == "STOP"
            client.execute("cont", {}, timeout=PATIENCE)
            assert resumes.get(timeout=PATIENCE).name == "RESUME"
            assert resumes.waiting() == []
            assert resumes.dropped == 0

    await against_our_server(tmp_path / "qmp.sock", use)


async def test_last_words_are_heard_before_the_end(tmp_path: Path) -> None:
    def use(client: QmpClient) -> None:
        with client.events() as events:
            client.execute("quit", timeout=PATIENCE)
            assert client.wait_disconnected(timeout=PATIENCE) == "the server has closed the connection"
            assert [found.name for found in events.waiting()] == ["SHUTDOWN"]
            with pytest.raises(QmpDisconnected):
                next(events)
        with pytest.raises(QmpDisconnected):
            client.execute("stop")
        with pytest.raises(QmpDisconnected):
            client.poll()

    await against_our_server(tmp_path / "qmp.sock", use)


async def test_a_late_reply_is_dropped_and_the_connection_stays_usable() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        late = await server.request()
        following = await server.request()
        await server.answer(late, "late")
        await server.answer(following, "in time")
        await server.stream.receive_some()

    def use(client: QmpClient) -> None:
        with pytest.raises(QmpTimeout, match=r"reply to stop: nothing within 0\.05 s"):
            client.execute("stop", timeout=0.05)
        assert client.execute("cont", timeout=PATIENCE) == "in time"

    await against(play, use)


async def test_a_request_that_times_out_half_sent_is_sent_to_its_end() -> None:
    commands: list[Any] = []
    timed_out = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def play(server: Player) -> None:
        await server.welcome()
        await timed_out.wait()
        for _ in range(2):
            request = await server.request()
            commands.append(request["execute"])
            await server.answer(request)
        await server.stream.receive_some()

    def use(client: QmpClient) -> None:
        with pytest.raises(QmpTimeout):
            client.execute("big", filler="x" * 500_000, timeout=0.5)  # more than the socket holds
        with pytest.raises(QmpTimeout):
            client.execute("never sent", timeout=0.05)
        trio.from_thread.run_sync(timed_out.set, trio_token=token)
        client.execute("cont", timeout=PATIENCE)

    await against(play, use)
    assert commands == ["big", "cont"]


async def test_a_command_to_a_server_that_has_gone_says_so() -> None:
    async def play(server: Player) -> None:
        await server.welcome()

    def use(client: QmpClient) -> None:
        assert select.select([client], [], [], PATIENCE)[0] == [client]  # the end is there to be read
        with pytest.raises(QmpDisconnected, match="the server has closed the connection"):
            client.execute("stop", timeout=PATIENCE)

    await against(play, use)


async def test_events_are_heard_while_a_command_waits() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        request = await server.request()
        await server.send(event("STOP"))
        await server.answer(request)
        await server.send(event("RESUME"))
        await server.stream.receive_some()

    def use(client: QmpClient) -> None:
        heard: list[str] = []
        with client.listening(lambda found: heard.append(found.name)):
            client.execute("stop", timeout=PATIENCE)
            assert heard[0] == "STOP"
            with client.events("RESUME") as resumes:
                while "RESUME" not in heard:
                    resumes.get(timeout=PATIENCE)
        client.poll()

    await against(play, use)


async def test_a_server_that_refuses_another_client_says_why() -> None:
    near, far = connected_pair()
    async with far:
        await Player(far).send({"error": {"class": "GenericError", "desc": "too many clients"}})

        def program() -> None:
            with pytest.raises(QmpConnectError, match="too many clients"), QmpClient.over(near):
                pytest.fail("the server has refused")

        await trio.to_thread.run_sync(program)


async def test_a_silent_server_is_given_up() -> None:
    near, far = connected_pair()
    async with far:

        def program() -> None:
            with pytest.raises(QmpTimeout, match="greeting"), QmpClient.over(near, timeout=0.05):
                pytest.fail("the server has said nothing")

        await trio.to_thread.run_sync(program)


def test_nobody_listening_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with (
        pytest.raises(QmpConnectError, match=r"qmp\.sock: No such file"),
        connect_unix(tmp_path / "qmp.sock"),
    ):
        pytest.fail("there is no server")
    with pytest.raises(QmpTimeout), connect_unix(tmp_path / "qmp.sock", timeout=0.1, starting=True):
        pytest.fail("there is no server")


async def test_it_speaks_over_tcp() -> None:
    def program(port: int) -> bool:
        with connect_tcp("127.0.0.1", port, timeout=PATIENCE) as client:
            return bool(client.execute("query-status", timeout=PATIENCE)["running"])

    async with supervised() as supervision:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        supervision.nursery.start_soon(trio.serve_listeners, supervision.server.serve_client, [listener])
        assert await trio.to_thread.run_sync(program, listener.socket.getsockname()[1])


def test_it_loads_nothing_of_trio() -> None:
    program = "import sys, stratovirt.client.blocking; print('trio' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"

"""The trio client against our server: commands, events, many tasks, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from stratovirt.client import (
    QmpClient,
    QmpCommandError,
    QmpConnectError,
    QmpDisconnected,
    QmpTimeout,
    connect_tcp,
    connect_unix,
)
from stratovirt.machine.events import Resumed, Stopped
from tests.clients.servers import Player, event, listening, played
from tests.protocol.fakes import FakeControl, supervised


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp.sock"


@pytest.fixture
async def control(path: Path) -> AsyncIterator[FakeControl]:
    async with listening(path) as control:
        yield control


async def test_a_command_gives_its_return_value(control: FakeControl, path: Path) -> None:
    async with connect_unix(path) as client:
        assert client.greeting.version["qemu"]["major"] == 5
        status = await client.execute("query-status")
        assert status == {"running": True, "singlestep": False, "status": "running"}


async def test_arguments_are_keywords_or_a_mapping(control: FakeControl, path: Path) -> None:
    async with connect_unix(path) as client:
        assert await client.execute("qmp_capabilities", enable=[]) == {}
        assert await client.execute("qmp_capabilities", {"enable": []}) == {}
        with pytest.raises(QmpCommandError, match="no-such"):
            await client.execute("stop", {"no-such": 1})


async def test_a_refusal_carries_class_desc_and_command(control: FakeControl, path: Path) -> None:
    async with connect_unix(path) as client:
        with pytest.raises(QmpCommandError) as refusal:
            await client.execute("make-coffee")
        assert refusal.value.error_class == "CommandNotFound"
        assert refusal.value.command == "make-coffee"
        assert refusal.value.desc == str(refusal.value)
        assert await client.execute("stop") == {}


async def test_it_speaks_over_any_stream() -> None:
    async with supervised() as supervision:
        near, far = trio.testing.memory_stream_pair()
        supervision.nursery.start_soon(supervision.server.serve_client, far)
        async with QmpClient.over(near) as client:
            assert (await client.execute("query-status"))["running"]
            with pytest.raises(ValueError, match="unix sockets only"):
                await client.execute("getfd", fdname="x", fds=[0])


async def test_it_speaks_over_tcp() -> None:
    async with supervised() as supervision:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        supervision.nursery.start_soon(trio.serve_listeners, supervision.server.serve_client, [listener])
        async with connect_tcp("127.0.0.1", listener.socket.getsockname()[1]) as client:
            assert (await client.execute("query-status"))["running"]


async def test_many_tasks_share_a_connection_and_each_has_its_own_answer() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        requests = [await server.request() for _ in range(50)]
        await server.send(*({"return": r["arguments"], "id": r["id"]} for r in reversed(requests)))
        await server.stream.receive_some()

    answers: dict[int, object] = {}

    async def ask(client: QmpClient, number: int) -> None:
        answers[number] = await client.execute("echo", number=number)

    async with played(play) as stream, QmpClient.over(stream) as client:
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, client, number)
        assert answers == {number: {"number": number} for number in range(50)}


async def test_subscribers_each_get_the_events_they_asked_for(control: FakeControl, path: Path) -> None:
    async with (
        connect_unix(path) as client,
        client.events("RESUME") as resumes,
        client.events() as all_events,
    ):
        for _ in range(2):
            await client.execute("stop")
            await client.execute("cont")
        assert [(await all_events.get()).name for _ in range(4)] == ["STOP", "RESUME"] * 2
        assert [(await anext(resumes)).name for _ in range(2)] == ["RESUME", "RESUME"]
        assert all_events.waiting() == []


async def test_an_event_has_a_name_data_and_a_time() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        request = await server.request()
        await server.send(event("DEVICE_DELETED", device="net0", path="net0"))
        await server.answer(request)
        await server.stream.receive_some()

    async with played(play) as stream, QmpClient.over(stream) as client:
        found = await client.execute_and_wait("device_del", id="net0", event="DEVICE_DELETED")
        assert (found.name, found.timestamp) == ("DEVICE_DELETED", 1.5)
        assert found.data == {"device": "net0", "path": "net0"}


async def test_a_slow_subscriber_loses_the_oldest_and_knows_how_many(
    control: FakeControl, path: Path
) -> None:
    async with connect_unix(path) as client, client.events(limit=3) as events:
        for _ in range(2):
            control.events.publish(Stopped())
            control.events.publish(Resumed())
        await client.execute("query-status")
        assert events.dropped == 1
        assert [found.name for found in events.waiting()] == ["RESUME", "STOP", "RESUME"]


async def test_execute_and_wait_returns_the_event_of_its_command(control: FakeControl, path: Path) -> None:
    async with connect_unix(path) as client:
        assert (await client.execute_and_wait("stop", event="STOP", timeout=10)).name == "STOP"
        assert (await client.execute_and_wait("cont", event="RESUME", timeout=10)).data == {}
        with pytest.raises(QmpCommandError):
            await client.execute_and_wait("cont", event="RESUME", timeout=10)


async def test_a_late_reply_is_dropped_and_the_connection_stays_usable(
    control: FakeControl, path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    control.gate = trio.Event()
    async with connect_unix(path) as client:
        with pytest.raises(QmpTimeout, match="reply to stop: nothing within 5 s"):
            await client.execute("stop", timeout=5)
        with trio.move_on_after(5) as scope:
            await client.execute("query-status")
        assert scope.cancelled_caught
        control.gate.set()
        assert (await client.execute("query-status"))["status"] == "paused"


async def test_a_request_that_was_cancelled_unsent_never_goes_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    commands = []
    read_on = trio.Event()

    async def play(server: Player) -> None:
        await server.welcome()
        await read_on.wait()
        for _ in range(2):
            request = await server.request()
            commands.append(request["execute"])
            await server.answer(request)
        await server.stream.receive_some()

    async with played(play) as stream, QmpClient.over(stream) as client, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.execute("big", filler="x" * 4_000_000))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(QmpTimeout):
            await client.execute("stop", timeout=1)
        read_on.set()
        await client.execute("cont")
    assert commands == ["big", "cont"]


async def test_every_waiter_learns_that_the_machine_has_gone() -> None:
    async def play(server: Player) -> None:
        await server.welcome()
        for _ in range(3):
            await server.request()

    ends: list[str] = []

    async def ask(client: QmpClient) -> None:
        with pytest.raises(QmpDisconnected) as end:
            await client.execute("stop")
        ends.append(str(end.value))

    async def listen(client: QmpClient) -> None:
        async with client.events() as events:
            with pytest.raises(QmpDisconnected) as end:
                await events.get()
        ends.append(str(end.value))

    async with played(play) as stream, QmpClient.over(stream) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, client)
            for _ in range(3):
                nursery.start_soon(ask, client)
        assert ends == ["the server has closed the connection"] * 4
        assert await client.wait_disconnected() == ends[0]
        with pytest.raises(QmpDisconnected):
            await client.execute("stop")
        async with client.events() as events:
            with pytest.raises(QmpDisconnected):
                await events.get()


async def test_last_words_are_heard_before_the_end(control: FakeControl, path: Path) -> None:
    async with connect_unix(path) as client, client.events() as events:
        assert await client.execute("quit") == {}
        await client.wait_disconnected()
        assert (await events.get()).data == {"guest": False, "reason": "host-qmp-quit"}
        with pytest.raises(QmpDisconnected):
            await events.get()


async def test_the_users_exception_comes_out_as_itself(control: FakeControl, path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with connect_unix(path):
            raise KeyError("mine")


async def test_nobody_listening_is_an_error_at_once(path: Path) -> None:
    with pytest.raises(QmpConnectError, match=r"qmp\.sock: No such file"):
        async with connect_unix(path):
            pytest.fail("there is no server")


async def test_a_server_that_is_starting_can_be_waited_for(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        reached = trio.Event()

        async def connect() -> None:
            async with connect_unix(path, starting=True) as client:
                assert (await client.execute("query-status"))["running"]
                reached.set()

        nursery.start_soon(connect)
        await trio.testing.wait_all_tasks_blocked()
        async with listening(path):
            await reached.wait()


async def test_waiting_for_a_server_ends_in_time(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(QmpTimeout, match=r"connection to .*qmp\.sock: nothing within 3 s"):
        async with connect_unix(path, timeout=3, starting=True):
            pytest.fail("there is no server")

"""One client's session: greeting first, one reply for each request in order, events before their reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from stratovirt.errors import CommandError
from stratovirt.machine.control import RunState
from stratovirt.machine.events import Cause, Resumed, ShutDown, Stopped
from stratovirt.qmp import outbox, session
from stratovirt.qmp.protocol import MAX_MESSAGE
from tests.protocol.fakes import RecordingStream, Supervision, carry_out_quit, supervised


def names(send: bytes) -> list[str]:
    """What one send holds: event names, ``return`` and ``error``."""
    messages = [json.loads(line) for line in send.split(b"\r\n")[:-1]]
    return [message.get("event") or next(iter(message)) for message in messages]


class TestGreeting:
    async def test_it_comes_at_once_while_the_machine_is_busy(self, autojump_clock: trio.abc.Clock) -> None:
        async with supervised() as here:
            here.control.gate = trio.Event()
            first = await here.client()
            await first.ask("stop")
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            second = await here.client()
            assert (await second.execute("query-status"))["return"]["running"] is True
            assert trio.current_time() == began

    async def test_no_event_comes_before_it_and_no_old_event_behind_it(self) -> None:
        async with supervised() as here:
            here.control.events.publish(Stopped())
            client, stream = await here.connect()
            here.control.events.publish(Resumed())
            assert (await client.event())["event"] == "RESUME"
            assert [names(send) for send in stream.sends] == [["QMP"], ["RESUME"]]

    async def test_negotiation_may_be_left_out_repeated_or_empty_but_not_unknown(self) -> None:
        async with supervised() as here:
            client = await here.client()
            assert "return" in await client.execute("query-status")
            forms: list[dict[str, Any] | None] = [None, {}, {"enable": []}]
            for arguments in forms:
                assert await client.execute("qmp_capabilities", arguments) == {"return": {}}
            refused = await client.execute("qmp_capabilities", {"enable": ["oob"]})
            assert "'oob'" in refused["error"]["desc"]


class TestOrder:
    @pytest.mark.parametrize(
        ("command", "event"),
        [("stop", "STOP"), ("system_reset", "RESET"), ("system_powerdown", "POWERDOWN")],
    )
    async def test_an_event_and_the_reply_of_the_command_that_caused_it_are_one_send(
        self, command: str, event: str
    ) -> None:
        async with supervised() as here:
            client, stream = await here.connect()
            await client.execute(command, id=1)
            assert names(stream.sends[-1]) == [event, "return"]

    async def test_every_client_hears_the_event_but_only_the_one_who_asked_gets_the_reply(self) -> None:
        async with supervised() as here:
            asking, listening = await here.client(), await here.client()
            await asking.execute("stop")
            await asking.execute("cont")
            assert [(await listening.event())["event"] for _ in range(2)] == ["STOP", "RESUME"]
            assert [event["event"] for event in asking.events] == ["STOP", "RESUME"]

    async def test_a_refused_command_has_no_event(self) -> None:
        async with supervised() as here:
            client = await here.client()
            await client.execute("stop")
            assert "paused" in (await client.execute("stop", id="x"))["error"]["desc"]
            assert (await client.execute("query-status"))["return"]["status"] == "paused"
            assert len(client.events) == 1

    async def test_quit_is_answered_first_and_the_shutdown_event_is_a_send_of_its_own(self) -> None:
        async with supervised() as here:
            here.nursery.start_soon(carry_out_quit, here.control, here.server)
            client, stream = await here.connect()
            await client.ask("quit", id=1)
            assert [next(iter(message)) for message in await client.rest()] == ["return", "event"]
            assert [names(send) for send in stream.sends] == [["QMP"], ["return"], ["SHUTDOWN"]]

    async def test_so_it_is_when_the_shutdown_is_published_before_the_reply_could_be_sent(self) -> None:
        async with supervised() as here:
            here.control.quit = lambda: here.control.events.publish(ShutDown(Cause.HOST_QMP_QUIT))  # type: ignore[method-assign]
            client, stream = await here.connect()
            await client.execute("quit")
            await client.event()
            assert [names(send) for send in stream.sends] == [["QMP"], ["return"], ["SHUTDOWN"]]

    async def test_the_machine_is_asked_to_quit_only_once_the_reply_is_queued(self) -> None:
        async with supervised() as here:
            waiting: list[int] = []
            here.control.quit = lambda: waiting.extend(  # type: ignore[method-assign]
                one.reply_bytes_waiting for one in here.server.statistics()
            )
            client = await here.client()
            await client.execute("quit")
            assert waiting == [len(b'{"return":{}}\r\n')]

    async def test_quit_and_queries_do_not_wait_for_a_command_that_changes_the_machine(self) -> None:
        async with supervised() as here:
            here.control.gate = trio.Event()
            busy, other = await here.client(), await here.client()
            await busy.ask("stop")
            assert "return" in await other.execute("query-status")
            assert "return" in await other.execute("quit")
            assert here.control.quit_asked.is_set()

    async def test_a_long_pipeline_is_answered_in_order_with_its_ids(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        async with supervised() as here:
            client = await here.client()
            ids: list[Any] = [*range(300), "x", None, [1, {"a": 2}], 1.5, True]
            for id in ids:
                await client.ask("query-status", id=id)
            assert [(await client.answer())["id"] for _ in ids] == ids


class TestTrouble:
    async def test_a_half_close_gets_everything_answered_and_then_the_end(self) -> None:
        async with supervised() as here:
            client = await here.client()
            await client.ask("stop", id=1)
            await client.ask("query-status", id=2)
            await client.stream.send_eof()
            assert [message.get("id", "event") for message in await client.rest()] == ["event", 1, 2]

    async def test_a_half_close_within_a_message_is_said_so(self) -> None:
        async with supervised() as here:
            client = await here.client()
            await client.send(b'{"id":3,"execute":')
            await client.stream.send_eof()
            [error] = await client.rest()
            assert (error["id"], error["error"]["desc"]) == (3, "QMP input: the input ended within a message")

    @pytest.mark.parametrize("text", [b"[" * 2000, b'"' + b"x" * MAX_MESSAGE])
    async def test_a_message_beyond_a_limit_is_one_error_and_the_end(
        self, autojump_clock: trio.abc.Clock, text: bytes
    ) -> None:
        async with supervised() as here:
            client = await here.client()
            await client.send(text + b"x" * 100_000)
            assert ["limit" in message["error"]["desc"] for message in await client.rest()] == [True]
            await trio.sleep(session.LINGER + 1)
            assert here.server.statistics() == []

    async def test_after_garbage_the_session_goes_on(self) -> None:
        async with supervised() as here:
            client = await here.client()
            for noise in (b"hello\n", b'{"execute": stop"}', b'{"id":1,"id":1}', b"[]", b"\xff"):
                await client.send(noise)
                assert "error" in await client.answer()
            assert "return" in await client.execute("query-status")

    async def test_a_handler_that_fails_is_an_error_and_a_traceback_in_the_log_only(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with supervised() as here:

            async def broken() -> None:
                raise ZeroDivisionError("secret")

            here.control.stop = broken  # type: ignore[method-assign]
            client = await here.client()
            answer = await client.execute("stop", id=1)
            assert (answer["error"]["class"], answer["id"]) == ("GenericError", 1)
            assert "secret" not in answer["error"]["desc"]
            assert "return" in await client.execute("query-status")
        assert [record.exc_info is not None for record in caplog.records] == [True]

    async def test_a_command_that_has_begun_is_finished_though_its_client_is_gone(self) -> None:
        async with supervised() as here:
            here.control.gate = trio.Event()
            client, other = await here.client(), await here.client()
            await client.ask("stop")
            await trio.testing.wait_all_tasks_blocked()
            await client.stream.aclose()
            here.control.gate.set()
            assert (await other.event())["event"] == "STOP"
            assert here.control.state is RunState.PAUSED

    async def test_a_client_that_vanishes_with_a_pipeline_leaves_nothing_behind(self) -> None:
        async with supervised() as here:
            for _ in range(50):
                client = await here.client()
                await client.send(b'{"execute":"query-status"}' * 20)
                await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert here.server.statistics() == []

    async def test_a_packet_that_comes_while_the_writer_hangs_up_is_dropped(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "LINGER", 0)

        class Vanished(RecordingStream):
            async def send_all(self, data: bytes | bytearray | memoryview) -> None:
                raise trio.BrokenResourceError

            async def receive_some(self, max_bytes: int | None = None) -> bytes:
                await trio.testing.wait_all_tasks_blocked()
                return b'{"execute":"stop"}'

        async with supervised() as here:
            await here.server.serve_client(Vanished(trio.testing.memory_stream_pair()[1]))
            assert here.server.statistics() == []
            assert here.control.state is RunState.RUNNING
        assert caplog.text == ""

    async def test_a_session_that_fails_takes_no_other_with_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with supervised() as here:
            well = await here.client()
            near, far = trio.testing.memory_stream_pair()

            class Broken(RecordingStream):
                async def receive_some(self, max_bytes: int | None = None) -> bytes:
                    raise ZeroDivisionError

            await here.server.serve_client(Broken(far))
            assert "return" in await well.execute("query-status")
            with pytest.raises(trio.BrokenResourceError):
                await near.send_all(b"anyone?")
        assert "its session failed" in caplog.text

    async def test_commands_of_one_session_are_refused_by_the_machines_own_words(self) -> None:
        async with supervised() as here:

            async def crashed() -> None:
                raise CommandError("cont: the machine is in state internal-error (vCPU 0: triple fault)")

            here.control.cont = crashed  # type: ignore[method-assign]
            client = await here.client()
            assert "triple fault" in (await client.execute("cont"))["error"]["desc"]


async def stuck(here: Supervision) -> tuple[Any, RecordingStream]:
    """A client that reads its greeting and then nothing, on a stream without a buffer."""
    return await here.connect(pair=trio.testing.lockstep_stream_pair)


class TestSlowReaders:
    async def test_one_that_reads_nothing_for_30_s_of_full_buffers_is_dropped(
        self, autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with supervised() as here:
            await stuck(here)
            await trio.sleep(session.STUCK * 10)
            assert len(here.server.statistics()) == 1, "there was nothing for it to read"
            here.control.events.publish(Stopped())
            await trio.sleep(session.STUCK - 1)
            assert len(here.server.statistics()) == 1
            await trio.sleep(2)
            assert here.server.statistics() == []
        assert "has not read for 30 s and is dropped" in caplog.text

    async def test_its_oldest_events_go_and_are_counted_and_the_newest_stay(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with supervised() as here:
            client, _ = await stuck(here)
            here.control.events.publish(Stopped())
            await trio.testing.wait_all_tasks_blocked()
            extra = 7
            for _ in range(extra):
                here.control.events.publish(Stopped())
            for _ in range(outbox.MAX_EVENTS):
                here.control.events.publish(Resumed())
            [statistics] = here.server.statistics()
            assert (statistics.events_waiting, statistics.events_dropped) == (outbox.MAX_EVENTS, extra)
            heard = [(await client.event())["event"] for _ in range(outbox.MAX_EVENTS + 1)]
            assert heard == ["STOP"] + ["RESUME"] * outbox.MAX_EVENTS
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
        assert caplog.text.count("oldest events are being dropped") == 1
        assert f"too slow for {extra} events" in caplog.text

    async def test_overflow_never_drops_a_reply(self, autojump_clock: trio.abc.Clock) -> None:
        async with supervised() as here:
            client, _ = await stuck(here)
            here.control.events.publish(Stopped())
            for id in range(20):
                await client.ask("query-status", id=id)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2 * outbox.MAX_EVENTS):
                here.control.events.publish(Stopped())
            assert [(await client.answer())["id"] for _ in range(20)] == list(range(20))

    async def test_who_asks_and_never_reads_is_not_read_either(self, autojump_clock: trio.abc.Clock) -> None:
        async with supervised() as here:
            client, _ = await stuck(here)
            with trio.move_on_after(session.STUCK - 1):
                while True:
                    await client.send(b'{"execute":"query-commands"}' * 50)
            [statistics] = here.server.statistics()
            assert statistics.reply_bytes_waiting < outbox.REPLY_BACKLOG + 1000

    async def test_what_a_dropped_client_has_asked_for_is_not_done_any_more(
        self, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "REPLY_BACKLOG", 1000)
        async with supervised() as here:
            client, _ = await stuck(here)
            await client.send(b'{"execute":"query-commands"}' * 20 + b'{"execute":"stop"}')
            await trio.sleep(session.STUCK + 5)
            assert here.server.statistics() == []
            assert here.control.state is RunState.RUNNING


class TestManyClients:
    async def test_of_eight_with_one_stuck_and_one_killed_the_others_get_every_reply_and_event(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        async with supervised() as here:
            clients = [await here.client() for _ in range(6)]
            await stuck(here)
            killed = await here.client()
            rounds = 20

            async def work(client: Any, number: int) -> None:
                for turn in range(rounds):
                    answer = await client.execute("query-status", id=[number, turn])
                    assert answer["id"] == [number, turn]
                    reset = await client.execute("system_reset", id=turn)
                    assert reset == {"return": {}, "id": turn}

            async with trio.open_nursery() as nursery:
                for number, client in enumerate(clients):
                    nursery.start_soon(work, client, number)
                await killed.ask("system_reset")
                await trio.lowlevel.checkpoint()
                await killed.stream.aclose()
            expected = rounds * len(clients)
            for client in clients:
                while len(client.events) < expected:
                    await client.event()
                assert {event["event"] for event in client.events} == {"RESET"}

    async def test_one_too_many_is_told_so_and_let_go(self) -> None:
        async with supervised(max_clients=2) as here:
            first, _ = await here.client(), await here.client()
            near, far = trio.testing.memory_stream_pair()
            await here.server.serve_client(far)
            line = bytes(await near.receive_some())
            assert json.loads(line)["error"]["class"] == "GenericError"
            assert await near.receive_some() == b""
            await first.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert "return" in await (await here.client()).execute("query-status")

    async def test_closing_waits_for_readers_but_not_for_ever(self, autojump_clock: trio.abc.Clock) -> None:
        async with supervised() as here:
            client = await here.client()
            await stuck(here)
            here.control.events.publish(Stopped())
            began = trio.current_time()
            await here.server.close(3)
            assert trio.current_time() - began == pytest.approx(3)
            assert [message["event"] for message in await client.rest()] == ["STOP"]
            await trio.testing.wait_all_tasks_blocked()
            assert here.server.statistics() == []


def test_a_session_needs_neither_jsonschema_nor_difflib_before_somebody_makes_a_mistake() -> None:
    import subprocess
    import sys

    program = "import stratovirt.qmp.server, sys; print({'jsonschema', 'difflib'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

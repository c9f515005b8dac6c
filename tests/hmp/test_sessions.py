"""A person at a stream: greeted, prompted, answered in order; what fails or goes away fails alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from stratovirt.hmp.interpreter import Answer, Interpreter
from stratovirt.hmp.session import BANNER, PROMPT, HumanMonitor
from tests.hmp.fakes import real
from tests.protocol.fakes import FakeControl

SECONDS = 10


class Person:
    """Types, and reads."""

    def __init__(self, stream: trio.abc.Stream, control: FakeControl) -> None:
        self.stream = stream
        self.control = control

    async def type(self, text: bytes) -> None:
        await self.stream.send_all(text)

    async def read(self, wanted: str) -> str:
        """Everything up to and with ``wanted``, which must be the last there is."""
        seen = ""
        while not seen.endswith(wanted):
            data = await self.stream.receive_some()
            assert data, f"the end came after {seen!r}"
            seen += data.decode()
        return seen

    async def rest(self) -> str:
        """Everything up to the end."""
        return "".join([data.decode() async for data in self.stream])


@asynccontextmanager
async def person() -> AsyncIterator[Person]:
    """Somebody who has been greeted."""
    interpreter, control = real()
    near, far = trio.testing.memory_stream_pair()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, HumanMonitor(interpreter), far)
            someone = Person(near, control)
            assert await someone.read(PROMPT) == BANNER + PROMPT
            yield someone
            nursery.cancel_scope.cancel()


async def _serve(monitor: HumanMonitor, stream: trio.abc.Stream) -> None:
    async with stream:
        await monitor.serve_client(stream)


async def test_keys_are_echoed_and_a_line_is_answered_before_the_next_prompt() -> None:
    async with person() as someone:
        await someone.type(b"info status\r")
        assert await someone.read(PROMPT) == f"info status\r\nVM status: running\r\n{PROMPT}"


async def test_lines_sent_ahead_are_carried_out_in_order() -> None:
    async with person() as someone:
        await someone.type(b"stop\ninfo status\ncont\ninfo status\nfrob\n")
        seen = await someone.read(f"'frob'\r\n{PROMPT}")
        assert seen.replace(PROMPT, "") == (
            "VM status: paused\r\nVM status: running\r\nunknown command: 'frob'\r\n"
        )


async def test_what_is_typed_while_a_command_runs_waits_its_turn() -> None:
    async with person() as someone:
        someone.control.gate = trio.Event()
        await someone.type(b"stop\n")
        await someone.type(b"info status\n")
        await trio.testing.wait_all_tasks_blocked()
        someone.control.gate.set()
        assert await someone.read(f"paused\r\n{PROMPT}") == f"{PROMPT}VM status: paused\r\n{PROMPT}"


async def test_quit_begins_when_all_text_has_been_sent_and_ends_the_session() -> None:
    async with person() as someone:
        await someone.type(b"info status\nquit\ninfo status\n")
        assert await someone.rest() == f"VM status: running\r\n{PROMPT}"
        assert someone.control.quit_asked.is_set()


async def test_everything_received_is_answered_before_the_end() -> None:
    async with person() as someone:
        await someone.type(b"info status\n")
        await someone.stream.send_eof()  # type: ignore[attr-defined]
        assert await someone.rest() == f"VM status: running\r\n{PROMPT}"


async def test_somebody_who_vanishes_leaves_their_command_to_finish() -> None:
    async with person() as someone:
        someone.control.gate = trio.Event()
        await someone.type(b"stop\n")
        await trio.testing.wait_all_tasks_blocked()
        await someone.stream.aclose()
        someone.control.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert someone.control.state.value == "paused"


async def test_a_session_that_fails_is_logged_and_fails_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def explode(self: Interpreter, line: str) -> Answer:
        raise RuntimeError("injected")

    monkeypatch.setattr(Interpreter, "run", explode)
    async with person() as someone:
        await someone.type(b"stop\n")
        assert await someone.rest() == ""
    assert "injected" in caplog.text

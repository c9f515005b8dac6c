"""One terminal for two: keys reach the one that has it, in order; output of both reaches the screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from stratovirt.chardev.mux import REDRAW, TYPED_LIMIT, Multiplexer

SECONDS = 5


class Terminal:
    """The person's end of a terminal that a multiplexer carries."""

    def __init__(self) -> None:
        self.quits = 0
        self.keyboard, self.ours = trio.testing.memory_stream_pair()
        self.mux = Multiplexer(self._quit)

    def _quit(self) -> None:
        self.quits += 1

    async def screen(self, wanted: bytes) -> bytes:
        """Everything shown up to and with ``wanted``."""
        shown = b""
        while wanted not in shown:
            shown += await self.keyboard.receive_some()
        return shown


@asynccontextmanager
async def carried() -> AsyncIterator[Terminal]:
    terminal = Terminal()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.mux.carry, terminal.ours)
            yield terminal
            nursery.cancel_scope.cancel()


async def test_keys_go_to_the_console_until_ctrl_a_c_and_again_after_the_next() -> None:
    async with carried() as terminal:
        await terminal.keyboard.send_all(b"guest\x01cstop\r\x01cmore\x01")
        await terminal.keyboard.send_all(b"cinfo")
        console, monitor = b"", b""
        while len(console) < len(b"guestmore"):
            console += await terminal.mux.console.receive_some()
        while not monitor.endswith(b"info"):
            monitor += await terminal.mux.monitor.receive_some()
        assert console == b"guestmore"
        assert monitor == b"stop\r" + REDRAW + b"info", "a second visit asks for the prompt"


async def test_a_stream_gives_no_more_than_its_reader_can_take() -> None:
    async with carried() as terminal:
        await terminal.keyboard.send_all(b"abc")
        assert await terminal.mux.console.receive_some(2) == b"ab"
        assert await terminal.mux.console.receive_some(2) == b"c"


async def test_the_first_visit_is_announced() -> None:
    async with carried() as terminal:
        assert not terminal.mux.visited.is_set()
        await terminal.keyboard.send_all(b"\x01c")
        await terminal.mux.visited.wait()


async def test_ctrl_a_x_quits_from_either_side() -> None:
    async with carried() as terminal:
        await terminal.keyboard.send_all(b"\x01x\x01c\x01xdone")
        assert await terminal.mux.monitor.receive_some() == b"done"
        assert terminal.quits == 2


async def test_both_write_whoever_has_the_keys_and_one_at_a_time() -> None:
    """A terminal refuses two senders at once; none of them may see that."""
    async with carried() as terminal, trio.open_nursery() as nursery:
        await terminal.keyboard.send_all(b"\x01c\x01h")
        nursery.start_soon(terminal.mux.console.send_all, b"guest output")
        nursery.start_soon(terminal.mux.monitor.send_all, b"monitor output")
        shown = b""
        while not all(text in shown for text in (b"guest output", b"monitor output", b"send C-a\r\n")):
            shown += await terminal.keyboard.receive_some()
        assert b"C-a x" in shown
        assert b"C-a c" in shown


async def test_a_console_that_takes_nothing_leaves_the_escape_keys_working() -> None:
    async with carried() as terminal:
        await terminal.keyboard.send_all(b"x" * (TYPED_LIMIT - 1) + b"\x01cinfo")
        assert await terminal.mux.monitor.receive_some() == b"info"


async def test_what_is_typed_ahead_is_bounded_and_not_lost() -> None:
    text = b"".join(b"%07d " % number for number in range(3 * TYPED_LIMIT // 8))
    async with carried() as terminal, trio.open_nursery() as nursery:
        nursery.start_soon(terminal.keyboard.send_all, text)
        got = b""
        while len(got) < len(text):
            await trio.testing.wait_all_tasks_blocked()
            piece = await terminal.mux.console.receive_some()
            assert len(piece) <= TYPED_LIMIT + 4096
            got += piece
        assert got == text


async def test_the_end_of_the_terminal_is_the_end_of_both() -> None:
    async with carried() as terminal:
        await terminal.keyboard.send_all(b"last\x01")
        await terminal.keyboard.aclose()
        assert await terminal.mux.console.receive_some() == b"last"
        assert await terminal.mux.console.receive_some() == b""
        assert await terminal.mux.monitor.receive_some() == b""


async def test_output_waits_for_the_terminal() -> None:
    """The machine may print before the terminal is served."""
    terminal = Terminal()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.mux.console.send_all, b"early")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(terminal.mux.carry, terminal.ours)
            assert await terminal.screen(b"early") == b"early"
            nursery.cancel_scope.cancel()

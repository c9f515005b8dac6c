"""A console hands out what came, in order, and knows the guest's words from the kernel's."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.testing import GuestConsole


def console_over(*pieces: bytes) -> GuestConsole:
    """A console at which ``pieces`` have arrived, one per read, and which then ends."""
    waiting = list(pieces)

    class Pieces(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            return waiting.pop(0) if waiting else b""

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    return GuestConsole(trio.StapledStream(trio.testing.MemorySendStream(), Pieces()))


async def test_expect_returns_what_came_since_the_last_wherever_reads_are_cut() -> None:
    text = b"login: root\r\nguest# uname\r\n"
    for cut in range(len(text)):
        console = console_over(text[:cut] or b"\0", text[cut:])
        assert (await console.expect(b"login: ")).endswith(b"login: ")
        assert await console.expect(b"# ") == b"root\r\nguest# "
        assert bytes(await console.expect(b"\n")) == b"uname\r\n"
        assert bytes(console.text).endswith(text)


async def test_what_does_not_come_is_told_with_the_last_output() -> None:
    with pytest.raises(AssertionError, match="ended before b'prompt': half a line"):
        await console_over(b"half a line").expect(b"prompt")


async def test_what_does_not_come_in_time_is_told_with_the_last_output(
    autojump_clock: trio.abc.Clock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(b"still booting")
    with pytest.raises(AssertionError, match="no b'prompt' within 60 s: still booting"):
        await GuestConsole(near).expect(b"prompt")


async def test_silence_is_told_from_sound(autojump_clock: trio.abc.Clock) -> None:
    near, far = trio.testing.memory_stream_pair()
    console = GuestConsole(near)
    assert await console.silent(seconds=3)
    await far.send_all(b"x")
    assert not await console.silent(seconds=3)
    console.skip()
    assert await console.silent(seconds=3)


async def test_typing_sends_a_line_and_control_characters_as_they_are() -> None:
    near, far = trio.testing.memory_stream_pair()
    console = GuestConsole(near)
    await console.type("echo é")
    await console.send(b"\x03")
    assert bytes(await far.receive_some()) == "echo é\n\x03".encode()


async def test_a_log_does_not_steer_the_terminal_that_shows_it() -> None:
    console = console_over(b"guest# \x1b[6n\x1b[1;31mred\x1b[0m\x07 caf\xc3\xa9\ttab\r\nnext \xff\x9b")
    await console.drain()
    assert console.log() == console.tail() == "guest# red café\ttab\nnext \ufffd\ufffd"


words = st.lists(st.binary(max_size=30).map(lambda data: data.translate(None, b"\r\n[")), min_size=1)
bursts = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 99999), st.text("ab [:.]1", max_size=9)))


@given(words, bursts)
def test_lines_are_clean_wherever_the_kernel_bursts_in(
    lines: list[bytes], messages: list[tuple[int, int, str]]
) -> None:
    text = b"".join(line + b"\r\n" for line in lines)
    for at, second, message in sorted(messages, reverse=True):
        burst = f"[{second:5d}.123456] {message}\r\n".encode()
        text = text[:at] + burst + text[at:]

    async def read() -> list[bytes]:
        console = console_over(text)
        return [await console.line() for _ in lines]

    assert trio.run(read) == lines

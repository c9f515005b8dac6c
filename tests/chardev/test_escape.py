"""The escape keys: everything but Ctrl-a and the key after it is the guest's, in order."""

from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.chardev.escape import EscapeParser, Key
from stratovirt.chardev.terminal import EscapeStream

TYPED = st.lists(st.sampled_from([b"\x01", b"x", b"h", b"c", b"l", b"\xff", b"text"])).map(b"".join)


def feed_all(pieces: list[bytes]) -> list[bytes | Key]:
    """What a parser finds, with neighbouring runs of bytes joined."""
    parser = EscapeParser()
    found: list[bytes | Key] = []
    for item in (item for piece in pieces for item in parser.feed(piece)):
        if found and isinstance(item, bytes) and isinstance(found[-1], bytes):
            found[-1] += item
        else:
            found.append(item)
    return found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (b"ls -l\r\x03", [b"ls -l\r\x03"]),
        (b"\x01x", [Key.QUIT]),
        (b"\x01h", [Key.HELP]),
        (b"\x01c", [Key.MONITOR]),
        (b"\x01\x01", [b"\x01"]),
        (b"\x01\x01x", [b"\x01x"]),
        (b"a\x01cb\x01xd", [b"a", Key.MONITOR, b"b", Key.QUIT, b"d"]),
        (b"a\x01zb", [b"ab"]),
        (b"a\x01", [b"a"]),
    ],
)
def test_only_ctrl_a_and_its_key_are_taken_out(typed: bytes, found: list[bytes | Key]) -> None:
    assert feed_all([typed]) == found
    assert feed_all([bytes([byte]) for byte in typed]) == found


@given(TYPED, st.lists(st.integers(0, 40)))
def test_the_result_does_not_depend_on_the_cuts(typed: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(typed)) for cut in cuts), len(typed)]
    pieces = [typed[a:b] for a, b in pairwise(edges)]
    assert feed_all(pieces) == feed_all([typed])


async def test_keys_take_effect_after_what_was_typed_before_them() -> None:
    happened: list[object] = []
    keyboard, ours = trio.testing.memory_stream_pair()
    console = EscapeStream(ours, {Key.QUIT: lambda: happened.append(Key.QUIT)})
    await keyboard.send_all(b"halt\r\x01xafter")
    happened.append(await console.receive_some(256))
    happened.append(await console.receive_some(256))
    assert happened == [b"halt\r", Key.QUIT, b"after"]


async def test_the_end_of_the_terminal_is_the_end_of_the_stream() -> None:
    keyboard, ours = trio.testing.memory_stream_pair()
    await keyboard.send_all(b"\x01")
    await keyboard.aclose()
    assert await EscapeStream(ours, {}).receive_some() == b""


async def test_help_names_the_keys_that_do_something_and_no_others() -> None:
    keyboard, ours = trio.testing.memory_stream_pair()
    console = EscapeStream(ours, {Key.QUIT: lambda: None})
    await keyboard.send_all(b"\x01h!")
    assert await console.receive_some() == b"!"
    help_text = await keyboard.receive_some()
    assert b"C-a x" in help_text
    assert b"C-a h" in help_text
    assert b"C-a c" not in help_text


async def test_keys_without_an_action_do_nothing() -> None:
    keyboard, ours = trio.testing.memory_stream_pair()
    await keyboard.send_all(b"\x01ca")
    assert await EscapeStream(ours, {}).receive_some() == b"a"


async def test_help_and_guest_output_take_turns() -> None:
    """A terminal refuses two senders at once; neither of them may see that."""
    keyboard, ours = trio.testing.lockstep_stream_pair()
    console = EscapeStream(ours, {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(console.send_all, b"guest output")
        nursery.start_soon(console.receive_some)
        await keyboard.send_all(b"\x01h.")
        shown = b""
        while b"send C-a\r\n" not in shown or b"guest output" not in shown:
            shown += await keyboard.receive_some()
        nursery.cancel_scope.cancel()
    assert shown.startswith(b"guest output")

"""The escape keys: everything but Ctrl-a and the key after it is the guest's, in order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.chardev.escape import EscapeParser, Key

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

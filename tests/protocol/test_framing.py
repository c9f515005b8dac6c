"""Framing: the same stream gives the same messages however it is cut, within its limits, or one error."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.qmp.protocol.framing import MAX_DEPTH, MAX_MESSAGE, Framer, Garbage, Message
from tests.protocol import strategies

Found = list[Message | Garbage]

NEXT = b'{"execute":"query-status"}'

PACKET, TAIL = 4096, 5000
"""Bytes of the packets of a long message, and of its end that comes byte by byte."""


def fed(*packets: bytes) -> Found:
    """What a fresh framer finds in these packets."""
    framer = Framer()
    return [found for packet in packets for found in framer.feed(packet)]


def bytewise(stream: bytes) -> Found:
    """What a fresh framer finds when each byte is a packet."""
    return fed(*(stream[at : at + 1] for at in range(len(stream))))


def tailwise(stream: bytes) -> Found:
    """As :func:`bytewise` at the end, where the limit is; a megabyte of single bytes takes seconds."""
    split = max(0, len(stream) - TAIL)
    head = [stream[at : min(at + PACKET, split)] for at in range(0, split, PACKET)]
    return fed(*head, *(stream[at : at + 1] for at in range(split, len(stream))))


def values(found: Found) -> list[Any]:
    """The values of messages, all of them sound."""
    assert all(isinstance(one, Message) and one.defect is None for one in found), found
    return [one.value for one in found if isinstance(one, Message)]


def garbage(found: Found) -> list[str]:
    """The problems of what is garbage."""
    return [one.problem for one in found if isinstance(one, Garbage)]


@given(st.data())
def test_any_values_at_any_cuts_with_any_blanks_between_come_out_as_they_went_in(data: st.DataObject) -> None:
    pairs = data.draw(st.lists(strategies.json_texts(), max_size=5))
    blanks = st.text(" \t\r\n", max_size=3).map(str.encode)
    stream = b"".join(data.draw(blanks) + text for _, text in pairs) + data.draw(blanks)
    packets = data.draw(strategies.cuts(stream))
    assert values(fed(*packets)) == [value for value, _ in pairs]


@given(st.data())
def test_cuts_do_not_change_what_is_found_in_streams_with_errors_that_keep_the_place(
    data: st.DataObject,
) -> None:
    stream = b"".join(
        data.draw(
            st.lists(
                st.sampled_from(
                    [
                        NEXT,
                        b'{"id":1,"id":2}',
                        b'{"a":NaN,"id":[1, {"b":2}]}',
                        b'["\\ud800"]',
                        b'"\xc3"',
                        b'{"a":"\\\\\\"\\q"}',
                        b"[1e999,01,18446744073709551616]",
                        b" oops\n",
                        b"\xff\n",
                        b'{"execute" "stop"}\n',
                        b'{"a\n',
                    ]
                ),
                max_size=6,
            )
        )
    )
    assert fed(*data.draw(strategies.cuts(stream))) == fed(stream)


def test_several_messages_in_a_packet_and_one_over_several_need_no_newline() -> None:
    assert values(fed(NEXT + NEXT + NEXT[:5], NEXT[5:11], NEXT[11:])) == [{"execute": "query-status"}] * 3


def test_a_string_cut_behind_a_backslash_is_read_whole() -> None:
    stream = rb'["a\\", "\"", "\u0041\n"]'
    expected = [["a\\", '"', "A\n"]]
    assert [values(fed(stream[:cut], stream[cut:])) for cut in range(len(stream))] == [expected] * len(stream)


@pytest.mark.parametrize("feed", [fed, tailwise])
class TestLimits:
    def test_a_message_of_exactly_the_limit_is_read(self, feed: Any) -> None:
        text = b'"' + b"x" * (MAX_MESSAGE - 2) + b'"'
        assert [len(value) for value in values(feed(text))] == [MAX_MESSAGE - 2]

    @pytest.mark.parametrize("ending", [b'"', b"", b"\n", b'"' + NEXT])
    def test_one_byte_more_is_fatal_and_nothing_behind_it_is_read(self, feed: Any, ending: bytes) -> None:
        text = b'"' + b"x" * (MAX_MESSAGE - 1) + ending
        found = feed(text + (b"x" if not ending else b""))
        assert [(one.fatal, str(MAX_MESSAGE) in one.problem) for one in found] == [(True, True)]

    def test_white_space_within_a_message_counts_and_between_messages_does_not(self, feed: Any) -> None:
        blanks = b" " * MAX_MESSAGE
        assert values(feed(blanks + b"[1]" + blanks + b"[2]")) == [[1], [2]]
        assert [one.fatal for one in feed(b"[" + blanks)] == [True]

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_a_message_of_exactly_the_depth_is_read(self, feed: Any, opening: bytes, closing: bytes) -> None:
        text = opening * (MAX_DEPTH - 1) + b"[]" + closing * (MAX_DEPTH - 1)
        assert sys.getrecursionlimit() < MAX_DEPTH
        assert len(values(feed(text))) == 1

    @pytest.mark.parametrize("opening", [b"[", b'{"a":'])
    def test_one_level_more_is_fatal(self, feed: Any, opening: bytes) -> None:
        found = feed(opening * (MAX_DEPTH + 1) + NEXT)
        assert [(one.fatal, str(MAX_DEPTH) in one.problem) for one in found] == [(True, True)]


@pytest.mark.parametrize("size", [1, 7, 4096, MAX_MESSAGE])
def test_each_byte_of_a_long_message_is_looked_at_once_however_it_comes(size: int) -> None:
    """Counted, not timed: what the lexer keeps of a begun token only ever grows by what is new."""
    stream = b'{"execute":"' + b"\\n" * 500_000 + b'"}'
    looked_at = 0

    class CountedPacket(bytes):
        def __getitem__(self, key: Any) -> Any:
            nonlocal looked_at
            piece = super().__getitem__(key)
            looked_at += 1 if isinstance(piece, int) else len(piece)
            return piece

    framer = Framer()
    found: Found = []
    for at in range(0, len(stream), size):
        found += framer.feed(CountedPacket(stream[at : at + size]))
    assert len(values(found)) == 1
    assert looked_at < 5 * len(stream)


class TestResynchronisation:
    def test_the_error_gives_the_offset_within_the_message(self) -> None:
        found = fed(NEXT + b' {"execute" "stop"}')
        assert garbage(found) == ["""syntax error at byte 11 of the message: expected ':', not '"'"""]

    def test_the_next_line_is_read(self) -> None:
        found = fed(b'{"execute": ]} {"execute":"stop"}\r\n' + NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_the_newline_that_breaks_a_string_is_the_next_line_already(self) -> None:
        found = fed(b'{"execute":"stop\n' + NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_a_message_behind_a_flush_byte_is_read(self) -> None:
        found = fed(b'{"execute":"st\xff' + NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_a_flush_byte_within_a_string_is_one_error_for_the_line(self) -> None:
        found = fed(b'{"execute":"st\xffop"}\n' + NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_a_client_without_newlines_is_heard_again_with_its_next_packet(self) -> None:
        found = fed(b'{"execute": stop"}', NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_a_packet_that_does_not_begin_a_message_stays_unheard(self) -> None:
        found = fed(b'{"execute" "stop"', b', "id": {}}', b" \n", NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    def test_a_missing_bracket_is_noticed_when_the_next_message_begins(self) -> None:
        found = fed(b'{"execute":"stop"\n', NEXT + b"\n", NEXT)
        assert len(garbage(found)) == 1
        assert values(found[1:]) == [{"execute": "query-status"}]

    @pytest.mark.parametrize(
        "typo", [b"quit", b"'", b"42", b"true", b"}", b"\x00", b"\xfe", b"\xef\xbb\xbf" + NEXT]
    )
    def test_what_can_begin_no_message_is_answered_at_its_first_byte(self, typo: bytes) -> None:
        found = fed(typo)
        assert ["byte 0 of the message" in problem for problem in garbage(found)] == [True]

    def test_garbage_without_end_is_one_error_and_no_memory(self) -> None:
        framer = Framer()
        assert len(framer.feed(b"x" * 100)) == 1
        assert [framer.feed(b"{x"[1:] * 100_000) for _ in range(30)] == [[]] * 30

    @given(st.binary(max_size=60), st.data())
    def test_whatever_came_before_a_flushed_line_is_read(self, noise: bytes, data: st.DataObject) -> None:
        packets = data.draw(strategies.cuts(noise))
        found = fed(*packets, b"\xff\n" + NEXT)
        assert values(found[-1:]) == [{"execute": "query-status"}]


def test_the_end_of_the_stream_within_a_message_is_an_error_and_between_messages_is_not() -> None:
    framer = Framer()
    framer.feed(NEXT + b" \n")
    assert framer.end() == []
    framer = Framer()
    framer.feed(b'{"id":7,"execute":')
    assert [(one.problem, one.id_text) for one in framer.end() if isinstance(one, Garbage)] == [
        ("the input ended within a message", b"7")
    ]

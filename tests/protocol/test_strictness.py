"""Strict JSON: what another reader would take for something else is refused, and the next message is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from stratovirt.qmp.protocol.framing import Framer, Message
from tests.protocol import strategies


def only(text: bytes) -> Message:
    """The one message in ``text``, with another behind it to show that the place is kept."""
    found = Framer().feed(text + b"[]")
    assert len(found) == 2
    message = found[0]
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"a":1,"b":2,"a":3}', '"a" appears twice'),
        (b'{"a":{"b":1,"b":1}}', '"b" appears twice'),
        (b'{"a":1,"\\u0061":2}', "appears twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"[nan]", "nan"),
        (b"[1e999]", "1e999 is out of range"),
        (b"[-1e999]", "-1e999 is out of range"),
        (b"[18446744073709551616]", "64 bits"),
        (b"[-9223372036854775809]", "64 bits"),
        (b"[1" + b"0" * 5000 + b"]", "64 bits"),
        (b"[01]", "01 is no JSON value"),
        (b"[+1]", "+1"),
        (b"[.5]", ".5"),
        (b"[1.]", "1."),
        (b"[1e]", "1e"),
        (b"[-]", "-"),
        (b"[0x10]", "0x10"),
        (b"[True]", "True"),
        (b"[tru]", "tru"),
        (rb'["\ud800"]', "surrogate"),
        (rb'["\udc00\ud800"]', "surrogate"),
        (rb'{"\ud800":1}', "surrogate"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b'["\xc3"]', "UTF-8"),
        (b'["\xc0\x80"]', "UTF-8"),
        (b'["\xfe"]', "UTF-8"),
        (b'{"\x80":1}', "UTF-8"),
        (rb'["\x41"]', "escape"),
        (rb'["\u12"]', "escape"),
    ],
)
def test_it_is_refused_by_name_and_the_place_is_kept(text: bytes, named: str) -> None:
    defect = only(text).defect
    assert defect is not None
    assert named in defect


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[18446744073709551615,-9223372036854775808,-0,0]", [2**64 - 1, -(2**63), 0, 0]),
        (b"[1.0,1e2,-1.5E-3,0.1]", [1.0, 100.0, -0.0015, 0.1]),
        (b"[true,false,null]", [True, False, None]),
        (rb'["\ud83d\ude00","\u0000","\/"]', ["😀", "\0", "/"]),
        ('["\x7f\u2028é😀"]'.encode(), ["\x7f\u2028é😀"]),
        (b'{"":{},"a":[]}', {"": {}, "a": []}),
    ],
)
def test_what_json_allows_is_read(text: bytes, value: Any) -> None:
    message = only(text)
    assert (message.value, message.defect) == (value, None)
    assert [type(one) for one in message.value] == [type(one) for one in value]


@given(strategies.json_texts())
def test_it_reads_what_pythons_own_reader_reads(pair: tuple[Any, bytes]) -> None:
    assert only(pair[1]).value == json.loads(pair[1])


@pytest.mark.parametrize(
    "text",
    [b"{,}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"[1,]", b"[,1]", b"[1 2]", b"{1:2}", b'{"a":1:2}', b"[}"],
)
def test_punctuation_where_the_grammar_has_none_is_one_syntax_error(text: bytes) -> None:
    found = Framer().feed(text + b"\n[]")
    assert ["syntax error" in getattr(one, "problem", "") for one in found] == [True, False]


class TestId:
    @pytest.mark.parametrize(
        "id_text", [b"1.10", b"-0", b"1E2", rb'"\u0041"', '"é"'.encode(), b"null", b"{}"]
    )
    def test_it_is_kept_to_the_letter(self, id_text: bytes) -> None:
        assert only(b'{"id": ' + id_text + b', "execute": "x"}').id_text == id_text

    def test_white_space_within_it_is_dropped_so_that_the_reply_stays_one_line(self) -> None:
        assert only(b'{"id" : { "a" :\n[ 1 ,"b c" ] } }').id_text == b'{"a":[1,"b c"]}'

    @pytest.mark.parametrize(
        "order", [b'{"id":7,"a":NaN}', b'{"a":NaN,"id":7}', b'{"a":{"b":1,"b":1},"id":7}']
    )
    def test_it_survives_a_defect_elsewhere(self, order: bytes) -> None:
        assert only(order).id_text == b"7"

    @pytest.mark.parametrize(
        "text", [b'{"id":NaN}', b'{"id":[1,"\xc3"]}', b'{"a":{"id":7}}', b'[{"id":7}]', b"[]"]
    )
    def test_one_that_cannot_be_echoed_or_is_not_the_requests_is_none(self, text: bytes) -> None:
        assert only(text).id_text is None

"""Envelopes: what makes a request, and the exact bytes that go out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.qmp.protocol import Connection, ProtocolMisuse, Refusal, Request, State
from stratovirt.qmp.protocol.state import TRANSITIONS, Happening
from tests.protocol import strategies
from tests.protocol.client import check_message


def opened() -> Connection:
    connection = Connection()
    connection.greet("1.2.3")
    return connection


def test_the_greeting_has_both_version_keys_in_the_manuals_order() -> None:
    line = Connection().greet("1.2.3")
    assert line == (
        b'{"QMP":{"version":{"StratoVirt":{"micro":3,"minor":2,"major":1},'
        b'"qemu":{"micro":1,"minor":0,"major":5},"package":"StratoVirt-1.2.3"},"capabilities":[]}}\r\n'
    )
    check_message(line.removesuffix(b"\r\n"))


@given(st.data())
def test_every_request_is_read_and_answered_with_its_id_in_order(data: st.DataObject) -> None:
    requests = data.draw(st.lists(strategies.requests(), max_size=4))
    stream = b"".join(data.draw(strategies.json_texts(st.just(request)))[1] for request in requests)
    connection = opened()
    read = [
        one for packet in data.draw(strategies.cuts(stream)) if packet for one in connection.receive(packet)
    ]
    expected = [(request["execute"], request.get("arguments", {})) for request in requests]
    assert [(one.command, one.arguments) for one in read if isinstance(one, Request)] == expected
    answers = [json.loads(connection.reply(b"{}")) for _ in read]
    assert answers == [{"return": {}, **({"id": r["id"]} if "id" in r else {})} for r in requests]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "a request is a JSON object, not an array"),
        (b'"stop"', "a request is a JSON object, not a string"),
        (b"{}", "'execute' is missing"),
        (b'{"execute":1}', "'execute' is a number, not a string"),
        (b'{"execute":null}', "'execute' is null, not a string"),
        (b'{"execute":"stop","arguments":[]}', "'arguments' is an array, not an object"),
        (b'{"execute":"stop","arguments":null}', "'arguments' is null, not an object"),
        (b'{"exec":"stop"}', "unknown key 'exec' (did you mean 'execute'?)"),
        (b'{"execute":"stop","control":{}}', "unknown key 'control'"),
    ],
)
def test_what_is_no_request_is_refused_by_name(text: bytes, words: str) -> None:
    [refusal] = opened().receive(text)
    assert isinstance(refusal, Refusal)
    assert words in refusal.desc


@pytest.mark.parametrize("id", [None, True, 0, -1.5, "x", [], {"a": [1]}, "é\n"])
def test_an_error_carries_the_id_as_well(id: Any) -> None:
    connection = opened()
    connection.receive(json.dumps({"exec": 1, "id": id}).encode())
    line = connection.refuse("no")
    assert json.loads(line) == {"error": {"class": "GenericError", "desc": "no"}, "id": id}
    check_message(line.removesuffix(b"\r\n"))


def test_replies_errors_and_events_have_the_manuals_order_no_blanks_and_one_line_end() -> None:
    connection = opened()
    connection.receive(b'{"id":1,"execute":"a"}{"execute":"b"}{"id":"c","execute":"c"}')
    assert connection.reply(b'{"running":true}') == b'{"return":{"running":true},"id":1}\r\n'
    assert (
        connection.refuse("no", "DeviceNotFound") == b'{"error":{"class":"DeviceNotFound","desc":"no"}}\r\n'
    )
    assert connection.refuse("no") == b'{"error":{"class":"GenericError","desc":"no"},"id":"c"}\r\n'
    assert connection.event("STOP", {}, 1_000_002) == (
        b'{"event":"STOP","data":{},"timestamp":{"seconds":1,"microseconds":2}}\r\n'
    )


class TestStates:
    def test_every_transition_leads_to_a_state_and_closed_is_final(self) -> None:
        assert {state for state, _ in TRANSITIONS} == set(State)
        assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {
            State.CLOSED
        }
        assert {happening for _, happening in TRANSITIONS} == set(Happening)

    def test_nothing_comes_before_the_greeting_and_it_comes_once(self) -> None:
        connection = Connection()
        with pytest.raises(ProtocolMisuse, match="before the greeting"):
            connection.event("STOP", {}, 0)
        with pytest.raises(ProtocolMisuse, match="no input"):
            connection.receive(b"{}")
        connection.greet("1.2.3")
        with pytest.raises(ProtocolMisuse, match="GREETED"):
            connection.greet("1.2.3")

    def test_nothing_is_answered_that_was_not_asked(self) -> None:
        with pytest.raises(ProtocolMisuse, match="no request"):
            opened().reply(b"{}")

    def test_no_error_class_goes_out_that_clients_do_not_know(self) -> None:
        connection = opened()
        connection.receive(b'{"execute":"a"}')
        with pytest.raises(ProtocolMisuse, match="OperationThrottled"):
            connection.refuse("no", "OperationThrottled")

    def test_after_a_half_close_all_that_was_asked_is_answered_first(self) -> None:
        connection = opened()
        connection.receive(b'{"execute":"a"}{"execute":"b"}')
        assert connection.receive(b"") == []
        connection.reply(b"{}")
        assert (connection.state, connection.owed) == (State.ENDING, 1)
        connection.reply(b"{}")
        assert connection.state is State.CLOSED

    def test_a_message_beyond_a_limit_is_answered_and_ends_the_connection(self) -> None:
        connection = opened()
        read = connection.receive(b'{"execute":"a","id":1}' + b"[" * 2000)
        assert [type(one) for one in read] == [Request, Refusal]
        connection.reply(b"{}")
        connection.refuse("too deep")
        assert connection.state is State.CLOSED

    def test_a_lost_client_is_owed_nothing(self) -> None:
        connection = opened()
        connection.receive(b'{"execute":"a"}')
        connection.lost()
        assert connection.state is State.CLOSED
        connection.lost()

"""The core that both clients share: any stream of bytes gives messages, or one clean end."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.client.conversation import Conversation, Event, Greeting, Message, Reply
from stratovirt.client.limits import MAX_REPLY
from stratovirt.errors import QmpCommandError, QmpDisconnected
from stratovirt.qmp.protocol import Connection

TRANSCRIPT = (
    b'{"QMP":{"version":{"qemu":{"major":5}},"capabilities":["oob"]}}\r\n'
    b'{"return":{},"id":1}\r\n'
    b'{"event":"STOP","timestamp":{"seconds":3,"microseconds":250000}}\n\r\n'
    b'{"error":{"class":"GenericError","desc":"no"},"id":2}\r\n'
    b'{"error":{"class":"GenericError","desc":"unreadable"}}\r\n'
)
MESSAGES: list[Message] = [
    Greeting({"qemu": {"major": 5}}, ["oob"]),
    Reply(1, result={}),
    Event("STOP", {}, 3.25),
    Reply(2, error=("GenericError", "no")),
    Reply(None, error=("GenericError", "unreadable")),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("return", "error", "event", "data", "timestamp", "QMP", "id"), VALUES),
)


def feed(conversation: Conversation, pieces: list[bytes]) -> list[Message]:
    return [message for piece in pieces for message in conversation.receive(piece)]


@given(st.lists(st.integers(0, len(TRANSCRIPT)), max_size=8).map(sorted))
def test_messages_do_not_depend_on_packets(cuts: list[int]) -> None:
    edges = [0, *cuts, len(TRANSCRIPT)]
    pieces = [TRANSCRIPT[a:b] for a, b in itertools.pairwise(edges)]
    assert feed(Conversation(), pieces) == MESSAGES


def test_messages_come_byte_by_byte() -> None:
    assert feed(Conversation(), [bytes([byte]) for byte in TRANSCRIPT]) == MESSAGES


@given(st.binary(max_size=200) | LIKELY.map(lambda message: json.dumps(message).encode() + b"\n"))
def test_any_bytes_are_messages_or_the_end(data: bytes) -> None:
    messages: list[Message] = []
    with contextlib.suppress(QmpDisconnected):  # the one exception that may come
        messages = Conversation().receive(data)
    assert all(isinstance(message, Greeting | Reply | Event) for message in messages)


@pytest.mark.parametrize(
    "line",
    [
        b'{"return":{},"id":[]}',
        b'{"error":{"class":"GenericError"}}',
        b'{"error":{"class":1,"desc":"x"}}',
        b'{"event":"STOP"}',
        b'{"event":"STOP","data":[],"timestamp":{"seconds":1,"microseconds":1}}',
        b"[" * 100_000,
        b"\xff",
        b"HTTP/1.1 400 Bad Request",
    ],
)
def test_what_is_no_message_ends_the_conversation(line: bytes) -> None:
    with pytest.raises(QmpDisconnected, match="no QMP message"):
        Conversation().receive(line + b"\r\n")


def test_a_message_without_end_is_not_kept_for_ever() -> None:
    conversation = Conversation()
    packet = b"x" * (1 << 20)
    for _ in range(MAX_REPLY // len(packet)):
        assert conversation.receive(packet) == []
    with pytest.raises(QmpDisconnected, match="more than 10485760 bytes"):
        conversation.receive(packet)


@given(st.lists(st.tuples(st.text(), st.dictionaries(st.text(), st.integers(-(2**63), 2**64 - 1)))))
def test_requests_read_back_on_the_servers_side(commands: list[tuple[str, dict[str, Any]]]) -> None:
    server, client = Connection(), Conversation()
    server.greet("1.2.3")
    sent = [client.request(command, arguments) for command, arguments in commands]
    received = [request for _, data in sent for request in server.receive(data)]
    assert [(r.command, r.arguments) for r in received] == commands  # type: ignore[union-attr]
    assert [r.id for r in received] == [str(number).encode() for number, _ in sent]
    assert len({number for number, _ in sent}) == len(sent)


def test_a_refused_command_raises_its_error() -> None:
    with pytest.raises(QmpCommandError, match=r"^no$"):
        Reply(1, error=("GenericError", "no")).value("stop")

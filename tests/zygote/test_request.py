"""What a client says is what the zygote's fork hears, and nothing else is taken for a request."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.zygote.request import LENGTH_SIZE, LIMIT, BadRequest, Request, receive, send

BYTES = st.binary(max_size=20).filter(lambda value: b"\0" not in value).map(os.fsdecode)
NAMES = BYTES.filter(lambda name: name != "" and "=" not in name)


@given(
    argv=st.lists(BYTES, max_size=5),
    directory=BYTES,
    umask=st.integers(0, 0o777),
    environment=st.dictionaries(NAMES, BYTES, max_size=5),
)
def test_a_request_arrives_as_it_was_sent(
    argv: list[str], directory: str, umask: int, environment: dict[str, str]
) -> None:
    here, there = socket.socketpair()
    with here, there:
        send(here, Request(argv, directory, umask, environment), [0, 1, 2])
        heard, descriptors = receive(there)
    for descriptor in descriptors:
        os.close(descriptor)
    assert len(descriptors) == 3
    assert (heard.argv, heard.directory, heard.umask, heard.environment) == (
        argv,
        directory,
        umask,
        environment,
    )


def test_a_request_larger_than_the_sockets_buffer_arrives() -> None:
    environment = {"LARGE": "x" * (1 << 20)}
    here, there = socket.socketpair()
    with here, there:
        sender = threading.Thread(target=send, args=(here, Request([], "/", 0, environment), [0, 1, 2]))
        sender.start()
        heard, descriptors = receive(there)
        sender.join()
    for descriptor in descriptors:
        os.close(descriptor)
    assert heard.environment == environment


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "ended after 0 bytes"),
        (b"\5\0\0\0he", "ended after 6 bytes"),
        ((LIMIT + 1).to_bytes(LENGTH_SIZE, "little"), f"more than {LIMIT}"),
        (b"\5\0\0\0hello", "0 descriptors"),
    ],
)
def test_what_is_no_request_is_said_in_a_sentence(said: bytes, reason: str) -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            here.sendall(said)
        with pytest.raises(BadRequest, match=reason):
            receive(there)


@pytest.mark.parametrize(
    "text", [b"", b"/\0", b"/\0x\x000\0", b"/\x000\0many\0", b"/\x000\x000\0no equals sign\0"]
)
def test_what_does_not_parse_is_a_bad_request(text: bytes) -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            socket.send_fds(here, [len(text).to_bytes(LENGTH_SIZE, "little") + text], [0, 1, 2])
        with pytest.raises(BadRequest, match="cannot be read"):
            receive(there)

"""The NBD client believes nothing: whatever a server says, there is data or an error, and an end."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.backends.disk.nbd import NbdConnection, NbdError

GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3)
SECONDS = 30
ERRORS = st.one_of(st.integers(0, 200), st.integers(0, (1 << 32) - 1))


def answer(kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", 0x0003_E889_0455_65A9, 7, kind, len(data)) + data


def export(size: int = 1 << 20, flags: int = 0x6D) -> bytes:
    return answer(3, struct.pack(">HQH", 0, size, flags)) + answer(1)


def reply(cookie: int, error: int = 0, data: bytes = b"") -> bytes:
    return struct.pack(">IIQ", 0x6744_6698, error, cookie) + data


@contextmanager
def server_that_says(said: bytes) -> Iterator[socket.socket]:
    """The client's end of a connection to one that says this and ends, whatever it is told."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(SECONDS)
        far.sendall(said)
        far.shutdown(socket.SHUT_WR)
        yield near


def test_an_export_is_chosen_and_read() -> None:
    with server_that_says(GREETING + export() + reply(1, data=b"abcdef")) as connection:
        nbd = NbdConnection(connection, "disk")
        assert (nbd.size, nbd.read_only) == (1 << 20, False)
        first, second = bytearray(2), bytearray(4)
        nbd.read(0, [memoryview(first), memoryview(second)])
        assert bytes(first + second) == b"abcdef"


def test_a_refusal_is_told_in_the_servers_words() -> None:
    with (
        server_that_says(GREETING + answer(1 << 31 | 6, b"no such export")) as connection,
        pytest.raises(NbdError, match="no such export"),
    ):
        NbdConnection(connection, "disk")


def test_an_error_is_an_error_and_the_next_request_is_served() -> None:
    said = GREETING + export() + reply(1, errno.ENOSPC) + reply(2)
    with server_that_says(said) as connection:
        nbd = NbdConnection(connection, "disk")
        with pytest.raises(OSError, match="No space left"):
            nbd.write(0, [memoryview(b"x" * 512)])
        nbd.flush()


def test_a_reply_to_something_else_ends_the_connection() -> None:
    with server_that_says(GREETING + export() + reply(7) + reply(2)) as connection:
        nbd = NbdConnection(connection, "disk")
        with pytest.raises(OSError, match="something else"):
            nbd.flush()
        with pytest.raises(OSError, match=r"has ended|Broken pipe"):
            nbd.flush()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        GREETING[:-2] + b"\0\0",
        GREETING + answer(1),
        GREETING + answer(3, b"short") + answer(1),
        GREETING + struct.pack(">QIII", 0x0003_E889_0455_65A9, 7, 1, 1 << 31),
    ],
)
def test_what_is_no_nbd_is_refused(said: bytes) -> None:
    with server_that_says(said) as connection, pytest.raises((NbdError, OSError)):
        NbdConnection(connection, "disk")


@given(
    said=st.one_of(
        st.binary(max_size=300),
        st.builds(lambda tail: GREETING + tail, st.binary(max_size=300)),
        st.builds(lambda tail: GREETING + export() + tail, st.binary(max_size=300)),
        st.builds(lambda e, tail: GREETING + export() + reply(1, e) + tail, ERRORS, st.binary()),
    )
)
def test_any_bytes_of_a_server_give_data_or_an_error(said: bytes) -> None:
    with server_that_says(said) as connection, suppress(NbdError, OSError):
        nbd = NbdConnection(connection, "disk")
        nbd.read(0, [memoryview(bytearray(16))])
        nbd.flush()

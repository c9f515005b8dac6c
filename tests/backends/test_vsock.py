"""The unix sockets of a vsock device: who calls is heard out and no further, and nobody is waited for."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.backends.vsock import LAST_PORT, MAX_LINE, UnixEnd, UnixHost
from tests.descriptors import descriptors_left


@pytest.fixture
def host(tmp_path: Path) -> Iterator[UnixHost]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vsock"))
        listener.listen()
        yield UnixHost(listener, str(tmp_path / "vsock"))


def said(*parts: bytes) -> tuple[int | str | None, bytes]:
    """What a caller that sends ``parts`` one by one wants ("refused": nonsense), and what it said besides."""
    near, far = socket.socketpair()
    with near, far:
        end = UnixEnd(near)
        port: int | str | None = None
        for part in parts:
            far.sendall(part)
            while port is None and _has_data(near):
                try:
                    port = end.port()
                except OSError:
                    port = "refused"
        return port, near.recv(1000) if _has_data(near) else b""


def _has_data(end: socket.socket) -> bool:
    try:
        return bool(end.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@given(port=st.integers(0, LAST_PORT), cut=st.integers(0, 30), rest=st.binary(max_size=50))
def test_a_port_is_understood_however_it_comes_and_nothing_behind_it_is_taken(
    port: int, cut: int, rest: bytes
) -> None:
    line = b"CONNECT %d\n" % port + rest
    assert said(line[:cut], line[cut:]) == (port, rest)


@given(line=st.binary(max_size=60).filter(lambda line: b"connect" not in line.lower()))
def test_any_other_line_is_refused_at_its_end_or_at_the_limit(line: bytes) -> None:
    port, _ = said(line)
    ended = b"\n" in line or len(line) >= MAX_LINE
    assert port == ("refused" if ended else None)


@pytest.mark.parametrize("number", [b"4294967295", b"-1", b"+5", b"0x10", b"", b"5 6", b"\xd9\xa3", b"1e3"])
def test_what_is_no_port_is_refused(number: bytes) -> None:
    assert said(b"CONNECT " + number + b"\n")[0] == "refused"


def test_who_is_gone_before_it_says_a_port_is_refused() -> None:
    near, far = socket.socketpair()
    with near:
        end = UnixEnd(near)
        assert end.port() is None
        far.close()
        with pytest.raises(OSError, match="has gone"):
            end.port()


def test_a_call_is_accepted_once_and_told_when_the_guest_has_accepted(host: UnixHost, tmp_path: Path) -> None:
    assert host.accept() is None
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "vsock"))
        end = host.accept()
        assert end is not None
        assert host.accept() is None
        end.accepted(1 << 30)
        end.close()
        assert caller.recv(100) == b"OK 1073741824\n"


def test_the_guest_reaches_the_socket_of_its_port_and_is_refused_where_there_is_none(
    host: UnixHost, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vsock_52"))
        listener.listen()
        end = host.dial(52)
        near, _ = listener.accept()
        with near:
            assert end.send([b"a", memoryview(b"b")]) == 2
            assert near.recv(10) == b"ab"
        end.close()
        with pytest.raises(FileNotFoundError):
            host.dial(53)
    with pytest.raises(ConnectionRefusedError):
        host.dial(52)


def test_a_listener_that_accepts_nobody_refuses_instead_of_being_waited_for(
    host: UnixHost, tmp_path: Path
) -> None:
    ends = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "vsock_52"))
        listener.listen(0)
        with pytest.raises(BlockingIOError):
            for _ in range(3):
                ends.append(host.dial(52))
    for end in ends:
        end.close()


def test_connections_leave_file_descriptors_to_others(host: UnixHost, tmp_path: Path) -> None:
    ends = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "vsock_52"))
        listener.listen(256)
        caller.connect(str(tmp_path / "vsock"))
        with descriptors_left(256):
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                while True:
                    ends.append(host.dial(52))
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                host.accept()
            others = [os.dup(0) for _ in range(16)]
            for fd in others:
                os.close(fd)
            ends.pop().close()
            caller_end = host.accept()
            assert caller_end is not None
            ends.append(caller_end)
    assert len(ends) > 128, "most are for connections"
    for end in ends:
        end.close()


def test_an_end_that_only_sends_no_more_is_not_gone() -> None:
    near, far = socket.socketpair()
    end = UnixEnd(near)
    buffer = memoryview(bytearray(4))
    assert end.receive([buffer]) is None
    far.shutdown(socket.SHUT_WR)
    assert (end.receive([buffer]), end.is_gone()) == (0, False)
    far.close()
    assert end.is_gone()
    end.close()

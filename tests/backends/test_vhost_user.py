"""vhost-user's front end says what the protocol wants, and never waits for ever."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from stratovirt.backends import vhostuser
from stratovirt.backends.vhostuser import VhostUser

HEADER = struct.Struct("<III")
VERSION, REPLY = 1, 4


class FakeProcess:
    """The other end, which says what the test wants."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def hear(self) -> tuple[int, bytes, list[int]]:
        """The next message: request, payload, descriptors."""
        head, fds, _, _ = socket.recv_fds(self.connection, HEADER.size, 8)
        request, flags, size = HEADER.unpack(head)
        assert flags == VERSION
        return request, self.connection.recv(size, socket.MSG_WAITALL) if size else b"", fds

    def answer(self, request: int, payload: bytes, flags: int = VERSION | REPLY) -> None:
        self.connection.sendall(HEADER.pack(request, flags, len(payload)) + payload)


@pytest.fixture
def ends() -> Iterator[tuple[VhostUser, FakeProcess]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield VhostUser(ours), FakeProcess(theirs)


def test_a_process_is_asked_for_its_features(ends: tuple[VhostUser, FakeProcess]) -> None:
    server, process = ends
    process.answer(vhostuser.GET_FEATURES, struct.pack("<Q", 1 << 32 | 5))
    assert server.features() == 1 << 32 | 5
    assert [process.hear()[0] for _ in range(2)] == [vhostuser.SET_OWNER, vhostuser.GET_FEATURES]


def test_it_is_told_of_memory_by_descriptor(ends: tuple[VhostUser, FakeProcess]) -> None:
    server, process = ends
    fds = [os.memfd_create(name) for name in ("low", "high")]
    server.share(1 << 32, [(0, 1 << 20, fds[0], 0), (1 << 32, 1 << 21, fds[1], 1 << 20)])
    assert process.hear() == (vhostuser.SET_FEATURES, struct.pack("<Q", 1 << 32), [])
    request, table, given = process.hear()
    assert request == vhostuser.SET_MEM_TABLE
    assert table == struct.pack("<II4Q4Q", 2, 0, 0, 1 << 20, 0, 0, 1 << 32, 1 << 21, 1 << 32, 1 << 20)
    assert [os.fstat(fd).st_ino for fd in given] == [os.fstat(fd).st_ino for fd in fds]
    for fd in (*fds, *given):
        os.close(fd)


def test_a_queue_is_started_by_its_kick_and_stopped_by_an_answer(ends: tuple[VhostUser, FakeProcess]) -> None:
    server, process = ends
    kick, call = os.eventfd(0), os.eventfd(0)
    server.start(1, 128, 0x1000, 0x2000, 0x3000, kick=kick, call=call)
    requests, payloads, given = zip(*(process.hear() for _ in range(5)), strict=True)
    assert requests[:3] == (vhostuser.SET_VRING_NUM, vhostuser.SET_VRING_BASE, vhostuser.SET_VRING_ADDR)
    assert requests[3:] == (vhostuser.SET_VRING_CALL, vhostuser.SET_VRING_KICK)
    assert payloads[2] == struct.pack("<IIQQQQ", 1, 0, 0x1000, 0x3000, 0x2000, 0)
    os.eventfd_write(given[4][0], 7)
    assert os.eventfd_read(kick) == 7
    process.answer(vhostuser.GET_VRING_BASE, struct.pack("<II", 1, 42))
    server.stop([1])
    assert process.hear()[:2] == (vhostuser.GET_VRING_BASE, struct.pack("<II", 1, 0))
    for fd in (kick, call, given[3][0], given[4][0]):
        os.close(fd)


@pytest.mark.parametrize(
    "answer",
    [
        (vhostuser.GET_FEATURES, bytes(8)),
        (vhostuser.GET_VRING_BASE, bytes(4)),
        (vhostuser.GET_VRING_BASE, bytes(8), VERSION),
    ],
)
def test_another_answer_than_the_one_wanted_is_an_error(
    ends: tuple[VhostUser, FakeProcess], answer: tuple[int, bytes]
) -> None:
    server, process = ends
    process.answer(*answer)
    with pytest.raises(OSError, match="it answers request"):
        server.stop([0])


def test_a_process_that_answers_byte_by_byte_has_no_more_time_than_another(
    ends: tuple[VhostUser, FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, process = ends
    monkeypatch.setattr(vhostuser, "CALL_SECONDS", 0.2)
    answer = HEADER.pack(vhostuser.GET_VRING_BASE, VERSION | REPLY, 8) + bytes(8)
    enough = threading.Event()

    def dribble() -> None:
        for byte in answer:
            enough.wait(0.1)  # shorter than a call may take, and together longer
            process.connection.send(bytes([byte]))

    dribbler = threading.Thread(target=dribble)
    dribbler.start()
    with pytest.raises(TimeoutError):
        server.stop([0])
    enough.set()
    dribbler.join()


def test_a_process_that_has_gone_is_an_error_and_seen_without_waiting(
    ends: tuple[VhostUser, FakeProcess],
) -> None:
    server, process = ends
    assert not server.has_gone()
    process.answer(vhostuser.GET_FEATURES, bytes(8))
    assert not server.has_gone(), "an answer that nobody has read yet"
    process.connection.close()
    assert server.has_gone()
    with pytest.raises(BrokenPipeError):
        server.stop([0])


def test_who_hangs_up_sees_the_connection_gone(ends: tuple[VhostUser, FakeProcess]) -> None:
    server, process = ends
    server.hang_up()
    assert server.has_gone()
    assert process.connection.recv(1) == b""


def test_more_memory_regions_than_a_message_holds_are_refused(ends: tuple[VhostUser, FakeProcess]) -> None:
    with pytest.raises(OSError, match="9 regions"):
        ends[0].share(0, [(0, 4096, 0, 0)] * 9)

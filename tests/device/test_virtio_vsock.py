"""The vsock device: connections both ways through the queues; a slow host or a silent guest hurts its own."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.devices.virtio import vsock, vsockmux
from stratovirt.devices.virtio.constants import NEEDS_RESET
from stratovirt.devices.virtio.mmio import STATUS
from stratovirt.devices.virtio.vsock import EVENT, RX, TX, VirtioVsock
from stratovirt.devices.virtio.vsockpacket import HEADER_SIZE, Header, Op, Shut
from stratovirt.devices.virtio.vsockstream import BUFFER
from tests.descriptors import descriptors_left
from tests.device.virtio import DriverRig, driving
from tests.device.vsock import GUEST_CID, GUEST_PORT, HOST_PORT, PairHost, from_guest

Packet = tuple[Header, bytes]


class VsockRig:
    """A guest's driver of a vsock device, and the host's side."""

    def __init__(self, rig: DriverRig, host: PairHost) -> None:
        self.rig, self.host = rig, host
        rig.negotiate()
        self.offer(32)

    def offer(self, count: int, size: int = 4096) -> None:
        """Offer receive buffers of ``size`` bytes behind the header."""
        for _ in range(count):
            self.rig.queue(RX).offer(into=[HEADER_SIZE, size])

    def says(self, header: Header, payload: bytes = b"") -> None:
        self.rig.queue(TX).send(
            [header._replace(length=len(payload)).pack(), *([payload] if payload else [])]
        )

    def hears(self) -> list[Packet]:
        """All packets for the guest; new buffers are offered for more."""
        self.rig.serve()
        found: list[Packet] = []
        while used := self.rig.queue(RX).collect():
            found += [(Header.unpack(one.data[:HEADER_SIZE]), one.data[HEADER_SIZE:]) for one in used]
            self.offer(len(used))
            self.rig.serve()
        return found

    def ops(self) -> list[int]:
        return [header.op for header, _ in self.hears()]

    def connects(self, guest_port: int = GUEST_PORT) -> socket.socket:
        """The guest connects to HOST_PORT; the far end."""
        self.says(from_guest(Op.REQUEST)._replace(src_port=guest_port))
        assert self.ops() == [Op.RESPONSE]
        return self.host.dialled[-1]

    def is_called(self, port: int = 5) -> tuple[socket.socket, Header]:
        """Somebody of the host's connects to the guest's ``port``: its end, and what the guest accepts by."""
        far = self.host.call(b"CONNECT %d\n" % port)
        [(request, _)] = self.hears()
        assert (request.op, request.dst_port) == (Op.REQUEST, port)
        answer = Header(GUEST_CID, 2, port, request.src_port, op=Op.RESPONSE, buf_alloc=1 << 18)
        self.says(answer)
        assert far.recv(100) == b"OK %d\n" % request.src_port
        return far, answer


@contextmanager
def vsock_rig(listens: Sequence[int] = (HOST_PORT,)) -> Iterator[VsockRig]:
    host = PairHost(listens)
    try:
        with driving(VirtioVsock(GUEST_CID, host)) as rig:
            yield VsockRig(rig, host)
    finally:
        host.close()


def is_closed(far: socket.socket) -> bool:
    """Has our end been closed, all data read?"""
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_the_guest_reads_its_cid() -> None:
    with vsock_rig() as guest:
        assert guest.rig.config(0, 8) == GUEST_CID


def test_a_guest_connects_to_the_host_and_bytes_go_both_ways() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        guest.says(from_guest(Op.RW), b"to the host")
        assert far.recv(100) == b"to the host"
        far.sendall(b"to the guest")
        [(header, data)] = guest.hears()
        assert (header.op, header.src_port, header.dst_port) == (Op.RW, HOST_PORT, GUEST_PORT)
        assert (header.fwd_cnt, data) == (len("to the host"), b"to the guest")


def test_who_connects_from_the_host_is_told_when_the_guest_accepts() -> None:
    with vsock_rig() as guest:
        far, header = guest.is_called()
        guest.says(header._replace(op=Op.RW), b"hello")
        assert far.recv(100) == b"hello"
        far.sendall(b"answer")
        assert [data for _, data in guest.hears()] == [b"answer"]


def test_what_follows_connect_at_once_is_the_guests() -> None:
    with vsock_rig() as guest:
        guest.host.call(b"connect 7\nearly")
        [(request, _)] = guest.hears()
        guest.says(request.reset()._replace(op=Op.RESPONSE, buf_alloc=100))
        assert [data for _, data in guest.hears()] == [b"early"]


def test_a_port_of_the_hosts_is_used_again_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsockmux, "LAST_HOST_PORT", vsockmux.FIRST_HOST_PORT + 2)
    with vsock_rig() as guest:
        _, second, _ = headers = [guest.is_called()[1] for _ in range(3)]
        assert len({header.dst_port for header in headers}) == 3
        guest.says(second._replace(op=Op.RST))
        assert guest.is_called()[1].dst_port == second.dst_port


def test_two_who_call_the_same_port_have_connections_of_their_own() -> None:
    with vsock_rig() as guest:
        (first, one), (second, two) = guest.is_called(), guest.is_called()
        assert one.dst_port != two.dst_port
        guest.says(two._replace(op=Op.RW), b"second")
        guest.says(one._replace(op=Op.RW), b"first")
        assert (first.recv(100), second.recv(100)) == (b"first", b"second")


def test_a_port_where_nobody_listens_is_refused_on_either_side() -> None:
    with vsock_rig(listens=()) as guest:
        guest.says(from_guest(Op.REQUEST))
        [(header, _)] = guest.hears()
        assert (header.op, header.src_port, header.dst_port) == (Op.RST, HOST_PORT, GUEST_PORT)
        far = guest.host.call(b"CONNECT 9\n")
        [(request, _)] = guest.hears()
        guest.says(request.reset())
        assert is_closed(far)
        assert guest.hears() == []


def test_a_caller_who_says_something_else_is_closed_and_others_are_not() -> None:
    with vsock_rig() as guest:
        lines = [b"GET / HTTP/1.1\n", b"CONNECT x\n", b"CONNECT 4294967295\n", b"CONNECT -1\n", b"C" * 40]
        bad = [guest.host.call(line) for line in lines]
        guest.host.call(b"").close()
        assert guest.hears() == []
        assert all(is_closed(far) for far in bad)
        guest.is_called()


def test_who_calls_before_there_is_a_driver_is_closed() -> None:
    with vsock_rig() as guest:
        guest.rig.write(STATUS, 0)
        far = guest.host.call(b"CONNECT 5\n")
        guest.rig.serve()
        assert is_closed(far)


def test_a_packet_for_no_connection_is_reset_and_a_reset_is_not_answered() -> None:
    with vsock_rig() as guest:
        for op in (Op.RESPONSE, Op.SHUTDOWN, Op.RW, Op.CREDIT_UPDATE, Op.CREDIT_REQUEST, 0, 77):
            guest.says(from_guest(op))
            assert guest.ops() == [Op.RST]
        guest.says(from_guest(Op.RST))
        assert guest.hears() == []


def test_another_type_or_cid_is_reset_and_a_false_sender_has_no_answer() -> None:
    with vsock_rig() as guest:
        guest.says(from_guest(Op.REQUEST)._replace(type=2))
        guest.says(from_guest(Op.REQUEST)._replace(dst_cid=7))
        (seqpacket, _), (elsewhere, _) = guest.hears()
        assert (seqpacket.op, seqpacket.type) == (Op.RST, 2)
        assert (elsewhere.op, elsewhere.src_cid) == (Op.RST, 7)
        guest.says(from_guest(Op.REQUEST)._replace(src_cid=GUEST_CID + 1))
        assert guest.hears() == []
        assert guest.host.dialled == []


def test_an_operation_that_does_not_exist_resets_its_connection() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        guest.says(from_guest(99))
        assert guest.ops() == [Op.RST]
        assert is_closed(far)


def test_a_packet_shorter_than_it_says_is_dropped() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        guest.rig.queue(TX).send([from_guest(Op.RW, length=5).pack(), b"abcd"])
        guest.rig.queue(TX).send([from_guest(Op.RW).pack()[:-1]])
        guest.says(from_guest(Op.RW), b"next")
        assert far.recv(100) == b"next"


def test_a_guest_that_closes_is_answered_by_a_reset_and_the_host_reads_the_rest() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        guest.says(from_guest(Op.RW), b"last")
        guest.says(from_guest(Op.SHUTDOWN, flags=Shut.BOTH))
        assert guest.ops() == [Op.RST]
        assert far.recv(100) == b"last"
        assert is_closed(far)


def test_a_host_that_closes_is_told_to_the_guest_behind_its_last_byte() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        far.sendall(b"last")
        far.close()
        (first, data), (second, _) = guest.hears()
        assert (first.op, data) == (Op.RW, b"last")
        assert (second.op, second.flags) == (Op.SHUTDOWN, Shut.BOTH)
        guest.says(from_guest(Op.RST))
        guest.says(from_guest(Op.RW), b"x")
        assert guest.ops() == [Op.RST], "the connection is gone"


def test_a_host_that_only_sends_no_more_gets_the_answer() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        far.sendall(b"question")
        far.shutdown(socket.SHUT_WR)
        (_, data), (second, _) = guest.hears()
        assert (data, second.op, second.flags) == (b"question", Op.SHUTDOWN, Shut.SEND)
        guest.says(from_guest(Op.RW), b"answer")
        assert far.recv(100) == b"answer"


def full(guest: VsockRig, header: Header) -> int:
    """Send until the host takes no more, within the credit; how many bytes that were."""
    sent = consumed = 0
    while sent - consumed < BUFFER:
        room = BUFFER - (sent - consumed)
        guest.says(header._replace(op=Op.RW), b"x" * room)
        sent += room
        for told, _ in guest.hears():
            consumed = told.fwd_cnt
    return sent


def test_a_host_that_reads_nothing_delays_its_own_stream_alone() -> None:
    with vsock_rig() as guest:
        slow = guest.connects(1)
        header = from_guest(Op.RW)._replace(src_port=1)
        sent = full(guest, header)
        fast = guest.connects(2)
        guest.says(from_guest(Op.RW)._replace(src_port=2), b"beside it")
        assert fast.recv(100) == b"beside it"
        slow.setblocking(True)
        got = 0
        while got < sent:
            got += len(slow.recv(1 << 20))
            guest.rig.serve()
        [*_, (told, _)] = guest.hears()
        assert told.op == Op.CREDIT_UPDATE
        assert 2 * (sent - told.fwd_cnt) < BUFFER, "the guest is told that there is room"


def test_hosts_that_read_nothing_cost_no_file_descriptor() -> None:
    with vsock_rig() as guest:
        slow = [guest.connects(port) for port in range(3)]
        with descriptors_left(0):
            sent = [full(guest, from_guest(Op.RW)._replace(src_port=port)) for port in range(3)]
        for far, count in zip(slow, sent, strict=True):
            got = 0
            while got < count:
                got += len(far.recv(1 << 20))
                guest.rig.serve()
        assert {told.op for told, _ in guest.hears()} == {Op.CREDIT_UPDATE}


def test_a_connection_that_the_host_cannot_watch_is_reset_and_others_live_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_watches_left(fd: int, ready: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with vsock_rig() as guest:
        before = guest.connects(1)
        with monkeypatch.context() as short:
            short.setattr(guest.rig.reactor, "watch", no_watches_left)
            guest.says(from_guest(Op.REQUEST)._replace(src_port=2))
            assert guest.ops() == [Op.RST]
            assert is_closed(guest.host.dialled[-1])
        guest.says(from_guest(Op.RW)._replace(src_port=1), b"lives on")
        assert before.recv(100) == b"lives on"
        guest.connects(2)


def test_a_guest_that_ignores_its_credit_loses_its_connection() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        full(guest, from_guest(Op.RW))
        guest.says(from_guest(Op.RW), b"x")
        assert guest.ops() == [Op.RST]
        while not is_closed(far):
            far.setblocking(True)
            assert far.recv(1 << 20)


def test_what_a_guest_had_sent_when_it_closed_reaches_a_slow_host_and_its_ports_are_free() -> None:
    with vsock_rig() as guest:
        slow = guest.connects()
        sent = full(guest, from_guest(Op.RW))
        guest.says(from_guest(Op.SHUTDOWN, flags=Shut.BOTH))
        assert guest.ops() == [Op.RST]
        again = guest.connects()
        got = 0
        while data := slow.recv(1 << 20):
            got += len(data)
            guest.rig.serve()
        assert got == sent
        guest.says(from_guest(Op.RW), b"of the new one")
        assert again.recv(100) == b"of the new one"


def test_bytes_wait_for_the_guest_to_offer_buffers_without_spinning() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        far.sendall(bytes(40 * 4096))
        guest.rig.serve()  # ends: nothing that waits for buffers is called for
        assert len(guest.rig.queue(RX).collect()) == 32
        guest.offer(32)
        assert sum(len(data) for _, data in guest.hears()) == 8 * 4096


def test_no_buffer_is_lost_when_there_is_nothing_to_put_into_it() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        for number in range(100):
            far.sendall(bytes([number]))
            assert [data for _, data in guest.hears()] == [bytes([number])]


def test_streams_take_turns() -> None:
    with vsock_rig() as guest:
        first, second = guest.connects(1), guest.connects(2)
        first.sendall(bytes(8 * 4096))
        second.sendall(bytes(8 * 4096))
        ports = [header.dst_port for header, _ in guest.hears()]
        assert len(ports) == 16
        assert ports[2:14] in ([1, 2] * 6, [2, 1] * 6)


def test_a_guest_that_offers_no_buffers_is_not_listened_to_for_ever() -> None:
    with vsock_rig() as guest:
        guest.rig.negotiate()
        for _ in range(4):
            for _ in range(64):
                guest.rig.queue(TX).offer([from_guest(Op.RW).pack()])
            guest.rig.serve()
            assert len(guest.rig.queue(TX).collect()) == 64
        guest.rig.queue(TX).offer([from_guest(Op.RW).pack()])
        guest.rig.serve()
        assert guest.rig.queue(TX).collect() == []
        guest.offer(1)
        guest.rig.serve()
        assert len(guest.rig.queue(TX).collect()) == 1


def test_a_receive_buffer_with_no_room_for_a_packet_breaks_the_device() -> None:
    with vsock_rig() as guest:
        guest.rig.negotiate()
        guest.rig.queue(RX).offer(into=[HEADER_SIZE])
        guest.says(from_guest(Op.RW))
        guest.rig.serve()
        assert guest.rig.read(STATUS) & NEEDS_RESET


def test_no_more_connections_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20
    for module in (vsock, vsockmux):
        monkeypatch.setattr(module, "MAX_CONNECTIONS", most)
    with vsock_rig() as guest:
        for port in range(most):
            guest.says(from_guest(Op.REQUEST)._replace(src_port=port))
            guest.hears()
        guest.says(from_guest(Op.REQUEST)._replace(src_port=5000))
        assert guest.ops() == [Op.RST]
        guest.host.call(b"CONNECT 5\n")
        assert guest.hears() == [], "it waits to be accepted"
        guest.says(from_guest(Op.RST)._replace(src_port=0))
        while not (packets := guest.hears()):
            guest.rig.reactor.look(1)
        assert packets[0][0].op == Op.REQUEST


def test_who_calls_while_fds_are_short_waits() -> None:
    with vsock_rig() as guest:
        guest.host.failure = errno.EMFILE
        guest.host.call(b"CONNECT 5\n")
        assert guest.hears() == []
        guest.host.failure = 0
        while not (packets := guest.hears()):
            guest.rig.reactor.look(1)
        assert packets[0][0].op == Op.REQUEST


def test_a_guest_that_does_not_answer_loses_the_connection_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "CONNECT_SECONDS", 0.05)
    with vsock_rig() as guest:
        far = guest.host.call(b"CONNECT 5\n")
        assert guest.ops() == [Op.REQUEST]
        while not (packets := guest.hears()):
            guest.rig.reactor.look(1)
        assert packets[0][0].op == Op.RST
        assert is_closed(far)


def test_a_guest_that_answers_keeps_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "CONNECT_SECONDS", 0.02)
    with vsock_rig() as guest:
        far, header = guest.is_called()
        guest.host.call(b"CONNECT 5\n")
        assert guest.ops() == [Op.REQUEST]
        while not (packets := guest.hears()):
            guest.rig.reactor.look(1)
        assert packets[0][0].op == Op.RST, "the other one's time is over"
        guest.says(header._replace(op=Op.RW), b"here")
        assert far.recv(10) == b"here"


def test_callers_that_a_guest_never_heard_of_are_given_up_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vsock, "CONNECT_SECONDS", 0.02)
    monkeypatch.setattr(vsockmux, "MAX_REPLIES", 8)
    with vsock_rig() as guest:
        guest.rig.negotiate()  # no buffers are offered
        callers = [guest.host.call(b"CONNECT 5\n") for _ in range(20)]
        for far in callers:
            while not is_closed(far):
                guest.rig.reactor.look(1)
        guest.rig.queue(TX).offer([from_guest(Op.RW).pack()])
        guest.rig.serve()
        assert len(guest.rig.queue(TX).collect()) == 1, "it is listened to"
        guest.offer(32)
        assert guest.ops() == [Op.RST], "the answer to what it said, and no other"


def test_a_host_that_goes_when_the_guest_has_closed_is_not_told_to_the_guest() -> None:
    with vsock_rig() as guest:
        slow = guest.connects()
        full(guest, from_guest(Op.RW))
        guest.says(from_guest(Op.SHUTDOWN, flags=Shut.BOTH))
        assert guest.ops() == [Op.RST]
        slow.close()
        assert guest.hears() == []


def test_what_waited_for_a_driver_is_not_the_next_ones() -> None:
    with vsock_rig() as guest:
        guest.rig.negotiate()
        guest.says(from_guest(Op.REQUEST))
        guest.says(from_guest(Op.RW)._replace(dst_port=9))
        far = guest.host.dialled[-1]
        far.sendall(b"for the first")
        guest.rig.negotiate()
        guest.rig.reactor.ready[guest.host.ends[-1].fd]()  # the device's thread had seen it already
        guest.offer(32)
        assert guest.hears() == []
        assert is_closed(far)


def test_a_reset_closes_every_connection_and_the_next_driver_has_new_ones() -> None:
    with vsock_rig() as guest:
        far, (near, _) = guest.connects(), guest.is_called()
        guest.rig.negotiate()
        guest.rig.serve()
        assert is_closed(far)
        assert is_closed(near)
        guest.offer(32)
        assert guest.hears() == []
        guest.connects()


def test_a_reset_of_a_guest_that_had_closed_keeps_what_the_host_is_to_get() -> None:
    with vsock_rig() as guest:
        slow = guest.connects()
        sent = full(guest, from_guest(Op.RW))
        guest.says(from_guest(Op.SHUTDOWN, flags=Shut.BOTH))
        guest.rig.negotiate()
        got = 0
        while data := slow.recv(1 << 20):
            got += len(data)
            guest.rig.serve()
        assert got == sent


def test_connections_live_on_when_another_reactor_serves_the_device() -> None:
    with vsock_rig() as guest:
        far = guest.connects()
        guest.rig.transport.detach(guest.rig.reactor)
        assert guest.rig.reactor.ready == {}
        far.sendall(b"meanwhile")
        guest.rig.transport.attach(guest.rig.reactor)
        assert [data for _, data in guest.hears()] == [b"meanwhile"]


def test_a_restored_guest_is_told_that_its_connections_are_gone() -> None:
    with vsock_rig() as guest:
        guest.connects()
        saved = (guest.rig.transport.save(), guest.rig.device.save())
        event = guest.rig.queue(EVENT)
        event.offer(into=[8])
        guest.rig.serve()
        assert event.collect() == [], "there is no event before a restore"
        guest.rig.transport.load(1, saved[0])
        guest.rig.device.load(1, saved[1])
        guest.rig.serve()
        [used] = event.collect()
        assert used.data == struct.pack("<I", 0)
        event.offer(into=[8])
        guest.rig.serve()
        assert event.collect() == [], "it is told once"


ANY_HEADER = st.builds(
    Header,
    src_cid=st.sampled_from([GUEST_CID, 2, 0]),
    dst_cid=st.sampled_from([2, 2, 2, 3, 1 << 63]),
    src_port=st.integers(0, 2),
    dst_port=st.integers(0, 1),
    length=st.integers(0, 64),
    type=st.sampled_from([1, 1, 1, 0, 2]),
    op=st.integers(0, 9),
    flags=st.integers(0, 4),
    buf_alloc=st.integers(0, 0xFFFF_FFFF),
    fwd_cnt=st.integers(0, 0xFFFF_FFFF),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), ANY_HEADER, st.binary(max_size=64)),
        st.tuples(st.just("offers"), st.integers(45, 200), st.none()),
        st.tuples(st.just("resets"), st.none(), st.none()),
        st.tuples(st.just("is called"), st.integers(0, 2), st.binary(max_size=100)),
        st.tuples(st.just("hosts close"), st.none(), st.none()),
        st.tuples(st.just("hosts send"), st.none(), st.binary(min_size=1, max_size=100)),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_whatever_a_guest_says_the_next_driver_has_a_device_that_works(
    steps: list[tuple[str, object, object]],
) -> None:
    with vsock_rig(listens=(0, HOST_PORT)) as guest:
        for step, first, second in steps:
            take_step(guest, step, first, second)
        guest.rig.negotiate()
        guest.rig.serve()
        assert not guest.rig.read(STATUS) & NEEDS_RESET
        guest.offer(32)
        guest.hears()
        far = guest.connects()
        guest.says(from_guest(Op.RW), b"works")
        assert far.recv(10) == b"works"


def take_step(guest: VsockRig, step: str, first: object, second: object) -> None:
    match step, first, second:
        case "says", Header() as header, bytes(payload):
            parts = [header.pack(), payload] if payload else [header.pack()]
            guest.rig.queue(TX).offer(parts)
        case "offers", int(size), _:
            guest.rig.queue(RX).offer(into=[size])
        case "resets", _, _:
            guest.rig.negotiate()
        case "is called", int(port), bytes(more):
            guest.host.call(b"CONNECT %d\n" % port + more)
        case "hosts close", _, _:
            for far in guest.host.dialled:
                far.close()
        case "hosts send", _, bytes(data):
            for far in guest.host.dialled:
                if far.fileno() >= 0:
                    with suppress(OSError):
                        far.send(data, socket.MSG_DONTWAIT)
    guest.rig.serve()

"""A vsock stream: every byte both ways within the credit of each side, and the end of each side told once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio.vsockpacket import HEADER_SIZE, Credit, Header, Op, Shut
from stratovirt.devices.virtio.vsockstream import BUFFER, Broken, Key, State, Stream
from tests.device.vsock import (
    GUEST_CID,
    GUEST_PORT,
    HOST_PORT,
    FakeHostEnd,
    buffer,
    filled,
    from_guest,
    opened,
    packets,
)

U32 = st.integers(0, 0xFFFF_FFFF)


@given(data=st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_any_44_bytes_are_a_header_and_are_given_back(data: bytes) -> None:
    assert Header.unpack(data).pack() == data


def test_a_header_lies_as_in_the_specification() -> None:
    packed = Header(3, 2, 0x1111, 0x2222, 5, 1, Op.RW, 3, 0x10000, 7).pack()
    fields = (3, 8), (2, 8), (0x1111, 4), (0x2222, 4), (5, 4), (1, 2), (5, 2), (3, 4), (0x10000, 4), (7, 4)
    assert packed == b"".join(value.to_bytes(size, "little") for value, size in fields)


@given(alloc=U32, consumed=U32, lengths=st.lists(st.integers(0, 1 << 31), max_size=5))
def test_credit_never_lets_more_be_sent_than_the_guest_allocated(
    alloc: int, consumed: int, lengths: list[int]
) -> None:
    credit = Credit(BUFFER)
    credit.hear(from_guest(Op.CREDIT_UPDATE, alloc=alloc))
    for length in lengths:
        credit.spend(min(length, credit.room()))
    assert 0 <= credit.room() <= alloc
    credit.hear(from_guest(Op.CREDIT_UPDATE, alloc=alloc, consumed=consumed))
    assert 0 <= credit.room() <= alloc


class Model:
    """A guest and a host that keep to the rules, and what each has sent and got."""

    def __init__(self, host_room: int, guest_alloc: int) -> None:
        self.host = FakeHostEnd(host_room)
        self.guest_alloc = guest_alloc
        self.stream = opened(self.host, guest_alloc)
        self.random = random.Random(host_room)
        self.sent, self.read, self.told, self.got = bytearray(), bytearray(), bytearray(), bytearray()
        self.room = self.consumed = 0
        self.room, self.unread = BUFFER, 0

    def guest_sends(self, size: int) -> None:
        data = self.random.randbytes(min(size, self.room))
        self.room -= len(data)
        self.sent += data
        header = from_guest(Op.RW, length=len(data), alloc=self.guest_alloc, consumed=self.consumed)
        self.stream.hear(header, [memoryview(data)])

    def guest_takes(self, size: int) -> None:
        self.guest_hears(filled(self.stream, size + 1))

    def guest_hears(self, packet: tuple[Header, bytes] | None) -> None:
        if packet is None:
            return
        header, data = packet
        self.got += data
        self.unread += len(data)
        assert self.unread <= self.guest_alloc
        in_flight = len(self.sent) - header.fwd_cnt
        assert header.buf_alloc == BUFFER
        assert 0 <= in_flight <= BUFFER
        self.room = BUFFER - in_flight

    def guest_reads(self, size: int) -> None:
        size = min(size, self.unread)
        self.unread -= size
        self.consumed += size
        header = from_guest(Op.CREDIT_UPDATE, alloc=self.guest_alloc, consumed=self.consumed)
        self.stream.hear(header, [])

    def host_sends(self, size: int) -> None:
        data = self.random.randbytes(size)
        self.told += data
        self.host.waiting += data
        self.stream.readable = True

    def host_reads(self, size: int) -> None:
        self.read += self.host.got[:size]
        del self.host.got[:size]

    def is_flushed(self, _size: int) -> None:
        if self.stream.wants_room:
            self.stream.flush()

    def run_dry(self) -> None:
        """Both read all that there is, until nothing moves."""
        while self.host.got or self.unread or self.stream.has_packet or self.stream.wants_room:
            for packet in packets(self.stream):
                self.guest_hears(packet)
            self.guest_reads(1 << 30)
            self.host_reads(1 << 30)
            self.is_flushed(0)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["guest_sends", "guest_takes", "guest_reads", "host_sends", "host_reads", "is_flushed"]
        ),
        st.one_of(st.integers(0, 200), st.integers(0, 2 * BUFFER)),
    ),
    max_size=60,
)


@given(
    actions=ACTIONS,
    host_room=st.one_of(st.integers(1, 300), st.integers(1, 2 * BUFFER)),
    guest_alloc=st.integers(1, 4 * BUFFER),
)
def test_bytes_pass_in_order_and_once_whoever_is_slow(
    actions: list[tuple[str, int]], host_room: int, guest_alloc: int
) -> None:
    model = Model(host_room, guest_alloc)
    for action, size in actions:
        getattr(model, action)(size)
    model.run_dry()
    assert model.read == model.sent
    assert model.got == model.told
    assert 2 * model.room > BUFFER, "the guest is told of the room that there is"


ANY_PACKET = st.builds(
    from_guest,
    op=st.one_of(st.integers(0, 8), st.integers(0, 0xFFFF)),
    length=st.just(0),
    flags=U32,
    alloc=U32,
    consumed=U32,
)


@given(
    script=st.lists(st.tuples(ANY_PACKET, st.binary(max_size=64), st.booleans()), max_size=20),
    asked=st.booleans(),
    limit=st.integers(0, 64),
)
def test_whatever_a_guest_says_a_stream_goes_on_or_is_broken(
    script: list[tuple[Header, bytes, bool]], asked: bool, limit: int
) -> None:
    host = FakeHostEnd(limit)
    request = from_guest(Op.REQUEST) if asked else None
    stream = Stream(Key(HOST_PORT, GUEST_PORT), GUEST_CID, host, request)
    host.waiting += bytes(100)
    for header, payload, readable in script:
        stream.readable = readable
        try:
            stream.hear(header, [memoryview(payload)])
        except Broken:
            return
        assert stream.state is not State.ENDED or not stream.has_packet
        if stream.state is State.ENDED:
            return
        filled(stream, 16)


def test_a_guest_that_sends_more_than_its_credit_breaks_its_stream() -> None:
    stream = opened(FakeHostEnd(limit=10))
    stream.hear(from_guest(Op.RW), [memoryview(bytes(BUFFER + 10))])
    with pytest.raises(Broken):
        stream.hear(from_guest(Op.RW), [memoryview(b"x")])


def test_what_is_kept_for_a_host_comes_before_what_the_guest_sends_then() -> None:
    host = FakeHostEnd(limit=3)
    stream = opened(host)
    stream.hear(from_guest(Op.RW), [memoryview(b"first")])
    host.limit = 100
    stream.hear(from_guest(Op.RW), [memoryview(b" second")])
    stream.flush()
    assert host.got == b"first second"


def test_what_a_guest_has_no_room_for_stays_with_the_host() -> None:
    host = FakeHostEnd()
    stream = opened(host, alloc=10)
    host.waiting += bytes(25)
    stream.readable = True
    [(header, data)] = packets(stream)
    assert (header.op, header.length, len(data)) == (Op.RW, 10, 10)
    assert not stream.wants_input
    assert len(host.waiting) == 15
    stream.hear(from_guest(Op.CREDIT_UPDATE, alloc=10, consumed=4), [])
    assert [len(data) for _, data in packets(stream)] == [4]


def test_a_guest_is_told_of_its_credit_at_each_half_of_the_buffer_and_no_oftener() -> None:
    stream = opened(FakeHostEnd())
    told = []
    for _ in range(4 * BUFFER // 1024):
        stream.hear(from_guest(Op.RW), [memoryview(bytes(1024))])
        told += [header.fwd_cnt for header, _ in packets(stream)]
    assert told == [half * BUFFER // 2 for half in range(1, 9)]


def test_a_guest_that_asks_for_credit_gets_it_at_once() -> None:
    stream = opened(FakeHostEnd())
    stream.hear(from_guest(Op.RW), [memoryview(bytes(100))])
    assert not stream.has_packet
    stream.hear(from_guest(Op.CREDIT_REQUEST), [])
    [(header, _)] = packets(stream)
    assert (header.op, header.buf_alloc, header.fwd_cnt) == (Op.CREDIT_UPDATE, BUFFER, 100)


def test_a_connection_of_the_hosts_is_asked_for_and_open_when_the_guest_answers() -> None:
    host = FakeHostEnd()
    host.waiting += b"early"
    stream = Stream(Key(1 << 30, 5), GUEST_CID, host)
    [(header, _)] = packets(stream)
    assert (header.op, header.src_cid, header.dst_cid) == (Op.REQUEST, 2, GUEST_CID)
    assert (header.src_port, header.dst_port) == (1 << 30, 5)
    assert host.port == 0
    stream.hear(from_guest(Op.RESPONSE), [])
    assert host.port == 1 << 30
    assert [data for _, data in packets(stream)] == [b"early"]


def test_a_guest_that_answers_twice_or_asks_for_what_is_there_breaks_its_stream() -> None:
    for op in (Op.RESPONSE, Op.REQUEST, 0, 8):
        with pytest.raises(Broken):
            opened(FakeHostEnd()).hear(from_guest(op), [])


@pytest.mark.parametrize(("gone", "flags"), [(False, Shut.SEND), (True, Shut.BOTH)])
def test_the_hosts_end_is_told_behind_its_last_byte(gone: bool, flags: Shut) -> None:
    host = FakeHostEnd()
    stream = opened(host)
    host.waiting += b"last"
    host.ended, host.gone = True, gone
    stream.readable = True
    (first, data), (second, _) = packets(stream)
    assert (first.op, data) == (Op.RW, b"last")
    assert (second.op, second.flags) == (Op.SHUTDOWN, flags)
    assert not stream.has_packet
    assert not stream.wants_input


def test_a_host_that_only_sends_no_more_still_gets_what_the_guest_sends() -> None:
    host = FakeHostEnd()
    stream = opened(host)
    host.ended = stream.readable = True
    packets(stream)
    stream.hear(from_guest(Op.RW), [memoryview(b"answer")])
    assert host.got == b"answer"


def test_a_guest_that_sends_to_a_host_that_is_gone_is_told_by_a_reset() -> None:
    host = FakeHostEnd()
    stream = opened(host)
    host.ended = host.gone = stream.readable = True
    packets(stream)
    with pytest.raises(Broken):
        stream.hear(from_guest(Op.RW), [memoryview(b"x")])


def test_the_guests_end_reaches_the_host_behind_its_last_byte() -> None:
    host = FakeHostEnd(limit=3)
    stream = opened(host)
    stream.hear(from_guest(Op.RW), [memoryview(b"abcdef")])
    stream.hear(from_guest(Op.SHUTDOWN, flags=Shut.SEND), [])
    assert (host.got, host.shuts) == (b"abc", [])
    host.limit = 100
    stream.flush()
    assert (host.got, host.shuts) == (b"abcdef", [Shut.SEND])
    with pytest.raises(Broken):
        stream.hear(from_guest(Op.RW), [memoryview(b"g")])


def test_a_guest_that_receives_no_more_gets_no_more() -> None:
    host = FakeHostEnd()
    stream = opened(host)
    stream.hear(from_guest(Op.SHUTDOWN, flags=Shut.RECEIVE), [])
    host.waiting += b"x"
    stream.readable = True
    assert host.shuts == [Shut.RECEIVE]
    assert packets(stream) == []


def test_a_stream_that_the_guest_has_ended_still_brings_the_host_what_was_sent() -> None:
    host = FakeHostEnd(limit=3)
    stream = opened(host)
    sent = bytes(range(256)) * (BUFFER // 256)
    stream.hear(from_guest(Op.RW), [memoryview(sent)])
    stream.hear(from_guest(Op.SHUTDOWN, flags=Shut.BOTH), [])
    assert stream.state is State.ENDED
    assert stream.wants_room
    host.limit = BUFFER
    stream.flush()
    assert host.got == sent
    assert not stream.wants_room
    assert not stream.has_packet


def test_a_broken_host_breaks_the_stream_in_either_direction() -> None:
    for act in ("send", "receive"):
        host = FakeHostEnd()
        stream = opened(host)
        host.broken = stream.readable = True
        with pytest.raises(Broken):
            stream.hear(from_guest(Op.RW), [memoryview(b"x")]) if act == "send" else filled(stream)


def test_a_packet_fills_a_buffer_of_several_parts_and_no_more() -> None:
    host = FakeHostEnd()
    stream = opened(host)
    host.waiting += bytes(range(100))
    stream.readable = True
    chain = buffer(20, 30, 8)
    assert stream.fill(chain) == 58
    assert b"".join(chain.writable)[HEADER_SIZE:] == bytes(range(14))

"""Frames pass a network card whole, in order and once; what has no room waits; a guest breaks only itself."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.backends.room import Room
from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import CONFIG_CHANGE, NEEDS_RESET
from stratovirt.devices.virtio.net import (
    CTRL_GUEST_OFFLOADS,
    GUEST_CSUM,
    GUEST_TSO4,
    LINK_UP,
    MQ,
    MRG_RXBUF,
    STATUS,
    VirtioNet,
)
from stratovirt.devices.virtio.netnative import NativePath
from stratovirt.devices.virtio.netqueues import MAX_FRAME
from stratovirt.memory import GuestMemory
from stratovirt.native.net import Net
from tests.device.virtio import DriverRig, driving

MAC = bytes.fromhex("525400000001")
HEADER = bytes(12)
RX, TX, CONTROL = 0, 1, 2
ALL = MRG_RXBUF | STATUS | GUEST_CSUM | GUEST_TSO4 | CTRL_GUEST_OFFLOADS


class SocketPort:
    """A port whose other end is a socket that keeps messages apart."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        self.far.settimeout(10)
        self._room = Room(self.near.fileno())
        self.fd, self.room_fd = self.near.fileno(), self._room.fd
        self.failure = 0

    @property
    def direct(self) -> bool:
        return not self.failure  # which its descriptor does not know of

    def receive(self, into: Sequence[memoryview]) -> int:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        try:
            return self.near.recvmsg_into(into)[0]
        except BlockingIOError:
            return 0

    def send(self, frame: Sequence[memoryview]) -> bool:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        try:
            self.near.sendmsg(frame)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._room.close()
        self.near.close()
        self.far.close()


@pytest.fixture(scope="module", params=["by Python", "by C"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is said here holds of both."""
    native = request.param == "by C"

    def of(memory: GuestMemory) -> NativePath | None:
        return NativePath(Net(memory.native_regions(), 0)) if native else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NativePath, "of", of)
        yield


class Cable:
    """A backend with ports that end in the test."""

    def __init__(self, pairs: int = 1, mtu: int | None = None) -> None:
        self.ports = [SocketPort() for _ in range(pairs)]
        self.mtu = mtu
        self.offloads: dict[str, bool] = {}
        self.queues = 0

    @property
    def far(self) -> socket.socket:
        return self.ports[0].far

    def set_offloads(self, **offloads: bool) -> None:
        self.offloads = offloads

    def set_queues(self, count: int) -> None:
        self.queues = count

    def close(self) -> None:
        for port in self.ports:
            port.close()


@contextmanager
def card(
    features: int | None = ALL, *, pairs: int = 1, plugged: bool = True, size: int = 64
) -> Iterator[tuple[DriverRig, VirtioNet, Cable]]:
    """A card with its driver, and a cable that is plugged in."""
    cable = Cable(pairs)
    device = VirtioNet(MAC, pairs, backend=cable if plugged else None)
    try:
        with driving(device) as rig:
            rig.negotiate(features, size=size)
            rig.serve()
            yield rig, device, cable
    finally:
        cable.close()


def command(rig: DriverRig, data: bytes, *, queue: int = CONTROL) -> int:
    """The answer to a command on the control queue: 0 is yes."""
    return rig.queue(queue).send([data[:2], data[2:]] if data[2:] else [data], [1]).data[0]


# -- from the guest ----------------------------------------------------------------------------------


def test_a_frame_is_sent_whole_from_many_buffers() -> None:
    with card() as (rig, device, cable):
        rig.queue(TX).send([HEADER, b"a" * 14, b"b" * 1000, b"c"])
        assert cable.far.recv(MAX_FRAME) == HEADER + b"a" * 14 + b"b" * 1000 + b"c"
        assert (device.senders[0].counters.frames, device.senders[0].counters.bytes) == (1, 1015)


def test_frames_wait_in_order_while_the_cable_has_no_room() -> None:
    with card() as (rig, _, cable):
        frames = [HEADER + bytes([number]) * 10000 for number in range(60)]
        for frame in frames:
            rig.queue(TX).offer([frame])
        rig.serve()
        held = len(frames) - len(rig.queue(TX).collect())
        assert held > 0
        for frame in frames:
            assert cable.far.recv(MAX_FRAME) == frame
            rig.serve()
        assert len(rig.queue(TX).collect()) == held


def test_what_is_no_frame_is_dropped_and_given_back() -> None:
    with card() as (rig, device, cable):
        for data in (b"x", HEADER + bytes(13), HEADER + bytes(MAX_FRAME)):
            rig.queue(TX).send([data])
        rig.queue(TX).send([HEADER + b"the next one is"])
        assert cable.far.recv(MAX_FRAME) == HEADER + b"the next one is"
        assert device.senders[0].counters.dropped == 3


def test_a_frame_that_the_port_refuses_is_dropped() -> None:
    with card() as (rig, device, cable):
        cable.ports[0].failure = errno.EIO
        rig.queue(TX).send([HEADER + bytes(60)])
        cable.ports[0].failure = 0
        rig.queue(TX).send([HEADER + b"the next one is not"])
        assert cable.far.recv(MAX_FRAME) == HEADER + b"the next one is not"
        assert device.senders[0].counters.dropped == 1


# -- to the guest ------------------------------------------------------------------------------------


def test_a_frame_fills_one_buffer_that_is_large_enough() -> None:
    with card() as (rig, device, cable):
        rig.queue(RX).offer(into=[2048])
        cable.far.send(HEADER + b"hello, guest")
        rig.serve()
        [used] = rig.queue(RX).collect()
        assert used.data == HEADER[:10] + b"\1\0" + b"hello, guest"
        assert (device.receivers[0].counters.frames, device.receivers[0].counters.bytes) == (1, 12)


def test_a_large_frame_is_merged_from_several_buffers() -> None:
    frame = os.urandom(5000)
    with card() as (rig, _, cable):
        for _ in range(8):
            rig.queue(RX).offer(into=[100, 1948])
        cable.far.send(HEADER + frame)
        rig.serve()
        used = rig.queue(RX).collect()
        assert [each.length for each in used] == [2048, 2048, 12 + 5000 - 2 * 2048]
        data = b"".join(each.data for each in used)
        assert data == HEADER[:10] + b"\3\0" + frame


def test_a_frame_waits_for_the_buffers_that_it_still_needs() -> None:
    frame = os.urandom(5000)
    with card() as (rig, _, cable):
        rig.queue(RX).offer(into=[2048])
        cable.far.send(HEADER + frame)
        cable.far.send(HEADER + b"the frame behind it")
        rig.serve()
        assert rig.queue(RX).collect() == []
        rig.queue(RX).offer(into=[2048])
        rig.serve()
        assert rig.queue(RX).collect() == []
        for _ in range(2):
            rig.queue(RX).offer(into=[2048])
        rig.serve()
        *large, small = rig.queue(RX).collect()
        assert b"".join(each.data for each in large)[12:] == frame
        assert small.data[12:] == b"the frame behind it"


def test_a_frame_that_can_never_fit_is_dropped_and_the_next_one_comes() -> None:
    with card(size=4) as (rig, device, cable):
        for _ in range(4):
            rig.queue(RX).offer(into=[64])
        cable.far.send(HEADER + bytes(1000))
        cable.far.send(HEADER + b"small enough")
        rig.serve()
        [used] = rig.queue(RX).collect()
        assert used.data[12:] == b"small enough"
        assert device.receivers[0].counters.dropped == 1


def test_without_merging_a_frame_must_fit_into_one_buffer() -> None:
    with card(STATUS) as (rig, device, cable):
        for _ in range(2):
            rig.queue(RX).offer(into=[12, 1514])
        cable.far.send(HEADER + bytes(1515))
        cable.far.send(HEADER + b"x" * 1514)
        rig.serve()
        [used] = rig.queue(RX).collect()
        assert used.data == HEADER[:10] + b"\1\0" + b"x" * 1514
        assert device.receivers[0].counters.dropped == 1


def test_frames_stay_in_the_port_while_the_driver_offers_no_buffers() -> None:
    with card() as (rig, _, cable):
        sent = [b"number %05d" % number for number in range(20)]
        for frame in sent:
            cable.far.send(HEADER + frame)
        rig.serve()
        assert cable.ports[0].fd not in rig.reactor.ready  # nobody spins meanwhile
        got = []
        for _ in sent:
            rig.queue(RX).offer(into=[2048])
            rig.serve()
            got += [used.data[12:] for used in rig.queue(RX).collect()]
        assert got == sent


def test_frames_wait_for_a_driver() -> None:
    cable = Cable()
    with driving(VirtioNet(MAC, backend=cable)) as rig:
        cable.far.send(HEADER + b"you were not there")
        rig.serve()
        rig.negotiate(ALL)
        rig.queue(RX).offer(into=[2048])
        rig.serve()
        [used] = rig.queue(RX).collect()
        assert used.data[12:] == b"you were not there"
        rig.write(mmio.STATUS, 0)
        cable.far.send(HEADER + b"you have gone")
        rig.serve()
    cable.close()


# -- link state --------------------------------------------------------------------------------------


def test_without_a_cable_the_link_is_down_and_frames_are_dropped() -> None:
    with card(plugged=False) as (rig, device, _):
        assert rig.config(6, 2) == 0
        rig.queue(TX).send([HEADER + bytes(60)])
        assert device.senders[0].counters.dropped == 1
        assert not device.blocking


def test_the_driver_hears_of_a_cable_that_is_plugged_in_and_pulled_out() -> None:
    with card(plugged=False) as (rig, device, cable):
        rig.transport.detach(rig.reactor)
        device.plug(cable, bytes.fromhex("525400000099"))
        rig.transport.attach(rig.reactor)
        assert rig.read(mmio.INTERRUPT_STATUS) & CONFIG_CHANGE
        assert rig.config(6, 2) == LINK_UP
        assert rig.config(0, 1) == 0x52
        assert rig.config(5, 1) == 0x99
        assert cable.offloads == {"checksum": True, "tso4": True, "tso6": False, "ecn": False}
        rig.queue(TX).send([HEADER + b"over the new cable"])
        assert cable.far.recv(MAX_FRAME) == HEADER + b"over the new cable"

        rig.write(mmio.INTERRUPT_ACK, CONFIG_CHANGE)
        rig.transport.detach(rig.reactor)
        device.unplug()
        rig.transport.attach(rig.reactor)
        assert rig.read(mmio.INTERRUPT_STATUS) & CONFIG_CHANGE
        assert rig.config(6, 2) == 0
        rig.queue(TX).send([HEADER + bytes(60)])
        cable.far.setblocking(False)
        with pytest.raises(BlockingIOError):
            cable.far.recv(1)


def test_a_cable_whose_other_end_goes_takes_the_link_down() -> None:
    with card() as (rig, device, cable):
        rig.queue(RX).offer(into=[2048])
        rig.serve()
        cable.ports[0].failure = errno.EBADFD
        cable.far.send(HEADER + b"x")
        rig.serve()
        assert rig.config(6, 2) == 0
        assert not device.link_up


# -- what the driver wishes --------------------------------------------------------------------------


def test_the_offer_does_not_depend_on_what_is_plugged_in() -> None:
    with card(None) as (plugged, *_), card(None, plugged=False) as (empty, *_):
        assert plugged.offered() == empty.offered()


def test_the_mtu_is_told_when_it_is_known() -> None:
    cable = Cable(mtu=9000)
    with driving(VirtioNet(MAC, backend=cable)) as rig:
        assert rig.offered() & 1 << 3
        assert rig.config(10, 2) == 9000
    cable.close()


def test_offloads_that_were_not_negotiated_are_not_used() -> None:
    with card(MRG_RXBUF) as (_, _, cable):
        assert cable.offloads == {"checksum": False, "tso4": False, "tso6": False, "ecn": False}


def test_the_control_queue_does_what_linux_asks_for() -> None:
    with card() as (rig, device, cable):
        assert command(rig, b"\0\0\1") == 0  # promiscuous
        assert command(rig, b"\1\0" + struct.pack("<II", 0, 0)) == 0  # no MAC filter
        assert command(rig, b"\1\1" + b"\x52\x54\0\0\0\x42") == 0
        assert rig.config(5, 1) == 0x42
        assert command(rig, b"\5\0" + struct.pack("<Q", GUEST_CSUM)) == 0
        assert cable.offloads == {"checksum": True, "tso4": False, "tso6": False, "ecn": False}
        rig.write(mmio.STATUS, 0)
        assert device.mac == MAC


@pytest.mark.parametrize(
    "data",
    [
        b"\0\7\1",  # no such receive mode
        b"\1\1\0",  # a MAC of one byte
        b"\2\0\1\0",  # VLAN filters were not offered
        b"\4\0" + struct.pack("<H", 2),  # more pairs than there are
        b"\4\0" + struct.pack("<H", 0),
        b"\5\0" + struct.pack("<Q", 1 << 8),  # TSO6 was not accepted
        b"\xff\xff",
        b"\0",
    ],
)
def test_a_command_that_makes_no_sense_is_answered_no(data: bytes) -> None:
    with card() as (rig, *_):
        assert command(rig, data) == 1


def test_several_pairs_are_used_when_the_driver_says_so() -> None:
    with card(ALL | MQ, pairs=3) as (rig, _, cable):
        assert cable.queues == 1
        assert command(rig, b"\4\0" + struct.pack("<H", 3), queue=6) == 0
        assert cable.queues == 3
        rig.queue(4).offer(into=[2048])
        cable.ports[2].far.send(HEADER + b"to the third pair")
        rig.queue(5).send([HEADER + b"from the third"])
        assert cable.ports[2].far.recv(100) == HEADER + b"from the third"
        [used] = rig.queue(4).collect()
        assert used.data[12:] == b"to the third pair"


def test_a_driver_without_several_pairs_finds_the_control_queue_behind_the_first() -> None:
    with card(ALL, pairs=3) as (rig, *_):
        assert command(rig, b"\0\0\1", queue=2) == 0


# -- snapshots and hostile drivers -------------------------------------------------------------------


def test_a_saved_card_goes_on_with_the_chains_in_hand() -> None:
    with card() as (rig, device, cable):
        for _ in range(3):
            rig.queue(RX).offer(into=[2048])
        rig.serve()  # they are in the card's hand
        assert command(rig, b"\1\1" + b"\x52\x54\0\0\0\x42") == 0
        transport, state = rig.transport.save(), device.save()
        rig.transport.detach(rig.reactor)

        again = VirtioNet(MAC, backend=cable)
        restored = mmio.VirtioMmio(again, "again", rig.memory, rig.irq)
        restored.load(restored.state_version, transport)
        again.load(VirtioNet.state_version, state)
        restored.attach(rig.reactor)
        cable.far.send(HEADER + b"after the restore")
        rig.serve()
        [used] = rig.queue(RX).collect()
        assert used.data[12:] == b"after the restore"
        assert again.config()[:6] == b"\x52\x54\0\0\0\x42"
        restored.detach(rig.reactor)
        restored.close()
        rig.transport.attach(rig.reactor)


def test_a_receive_buffer_that_cannot_be_written_breaks_the_queue_alone() -> None:
    with card() as (rig, *_):
        rig.queue(RX).offer([b"readable"])
        rig.serve()
        assert rig.read(mmio.STATUS) & NEEDS_RESET


def received(cable: Cable) -> bytes:
    try:
        return cable.far.recv(MAX_FRAME)
    except BlockingIOError:
        return b""


BUFFERS = st.lists(st.binary(min_size=1, max_size=80), max_size=4)
ROOMS = st.lists(st.integers(1, 80), max_size=3)
CHAINS = st.tuples(st.sampled_from((RX, TX, CONTROL)), BUFFERS, ROOMS).filter(lambda each: each[1] or each[2])


@given(st.lists(CHAINS, max_size=12), st.integers(0, 3))
def test_no_chain_of_a_hostile_driver_raises(
    chains: list[tuple[int, list[bytes], list[int]]], frames: int
) -> None:
    with card() as (rig, _, cable):
        for queue, out, into in chains:
            for _ in range(frames):
                cable.far.send(HEADER + bytes(70))
            rig.queue(queue).offer(out, into)
            rig.serve()
        # It goes on after a reset.
        rig.negotiate(ALL)
        rig.queue(TX).send([HEADER + b"a frame for the cable"])
        cable.far.setblocking(False)
        *_, last = iter(lambda: received(cable), b"")
        assert last == HEADER + b"a frame for the cable"

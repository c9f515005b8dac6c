"""Frames by C: whatever is in the rings, the outcome is that of the readable code in Python.

tests/device/test_virtio_net.py says what that is, of both; here a card whose frames C may pass and one whose
frames Python passes are given the same guest memory and the same network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import NEEDS_RESET, RING_EVENT_IDX, RING_INDIRECT_DESC
from stratovirt.devices.virtio.net import MRG_RXBUF, VirtioNet
from stratovirt.devices.virtio.netqueues import MAX_FRAME
from tests.device.test_native_block import Listener
from tests.device.test_virtio_net import HEADER, MAC, RX, TX, Cable
from tests.device.virtio import BUFFERS, INDIRECT, MEMORY, NEXT, RING_ROOM, RINGS, WRITE, DriverRig, driving

ENTRIES = 16
SLOT = 0x1_2000  # bytes of guest memory for one descriptor's buffer
ARENA = 8 * SLOT
TABLES = BUFFERS + ARENA


class Side:
    """A card with its network and its driver.

    :param native: may C pass its frames?
    """

    def __init__(self, rig: DriverRig, cable: Cable, *, native: bool) -> None:
        self.rig, self.cable = rig, cable
        self.listener = Listener()
        rig.memory.written = self.listener.written
        if native:
            rig.allow_native(self.listener.address)
        rig.memory.write(BUFFERS, b"\xee" * ARENA)
        self.listener.told.clear()
        rig.serve()
        self.sent: list[bytes] = []

    def outcome(self) -> dict[str, object]:
        """All that can be told of what it has done."""
        card = self.rig.device
        assert isinstance(card, VirtioNet)
        counters = [queue.counters for queue in (*card.receivers, *card.senders)]
        return {
            "arena": self.rig.memory.read(BUFFERS, ARENA),
            "rings": self.rig.memory.read(RINGS, 2 * RING_ROOM),
            "sent": self.sent,
            "told": self.listener.told,
            "counts": [(each.frames, each.bytes, each.dropped) for each in counters],
            "broken": self.rig.read(mmio.STATUS) & NEEDS_RESET,
        }

    def collect(self) -> None:
        """Take what has come to the cable's other end."""
        self.cable.far.setblocking(False)
        while True:
            try:
                self.sent.append(self.cable.far.recv(MAX_FRAME))
            except BlockingIOError:
                return


class Part(NamedTuple):
    """A descriptor: an address in the arena or anywhere, a length, flags."""

    address: int
    length: int
    flags: int


class Offer(NamedTuple):
    """The driver makes a chain available."""

    queue: int
    parts: list[Part]
    indirect: bool

    def do(self, side: Side) -> None:
        queue = side.rig.queue(self.queue)
        first = queue.free
        places = [(first + number) % ENTRIES for number in range(len(self.parts))]
        if self.indirect:
            table = TABLES + 0x1000 * first
            for number, (address, length, flags) in enumerate(self.parts):
                more = NEXT if number + 1 < len(self.parts) else 0
                queue_entry = (address, length, flags | more, number + 1)
                side.rig.memory.write(table + 16 * number, _packed(*queue_entry))
            queue.descriptor(first, table, 16 * len(self.parts), INDIRECT)
            places = places[:1]
        else:
            for number, (place, part) in enumerate(zip(places, self.parts, strict=True)):
                more = NEXT if number + 1 < len(self.parts) else 0
                queue.descriptor(place, part.address, part.length, part.flags | more, (place + 1) % ENTRIES)
        queue.free = (places[-1] + 1) % ENTRIES
        queue.make_available(first)
        queue.kick()


class Come(NamedTuple):
    """A frame of that length comes."""

    length: int

    def do(self, side: Side) -> None:
        side.cable.far.send(bytes(number & 0xFF for number in range(self.length)))


def _packed(address: int, length: int, flags: int, following: int) -> bytes:
    return address.to_bytes(8, "little") + b"".join(
        value.to_bytes(size, "little") for value, size in ((length, 4), (flags, 2), (following, 2))
    )


IN_ARENA = st.integers(0, 7).map(lambda slot: BUFFERS + slot * SLOT)
ANYWHERE = st.sampled_from([MEMORY - 100, MEMORY, (1 << 64) - 64, 0xFEE0_0000, RINGS])
FULL, MEDIUM = MAX_FRAME + 1, 0x8000
BUFFER_LENGTHS = st.sampled_from([FULL, FULL, MEDIUM, MEDIUM, 1536, 12, 11, 1, 0])


def parts(flags: int, lengths: st.SearchStrategy[int]) -> st.SearchStrategy[list[Part]]:
    plain = st.builds(Part, IN_ARENA, lengths, st.just(flags))
    odd = st.builds(Part, st.one_of(IN_ARENA, ANYWHERE), lengths, st.sampled_from([0, WRITE, INDIRECT]))
    return st.lists(plain, min_size=1, max_size=4) | st.lists(plain | odd, min_size=1, max_size=3)


FRAMES = st.builds(Offer, st.just(TX), parts(0, st.sampled_from([12, 26, 100, 1500, 0x4000])), st.booleans())
ROOM = st.builds(Offer, st.just(RX), parts(WRITE, BUFFER_LENGTHS), st.booleans())
COMING = st.builds(Come, st.sampled_from([26, 100, 1514, 0x8000, 0x8001, MAX_FRAME]))


@contextmanager
def twins(features: int) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(_side(features, native=True)),
            stack.enter_context(_side(features, native=False)),
        )


@contextmanager
def _side(features: int, *, native: bool) -> Iterator[Side]:
    cable = Cable()
    try:
        with driving(VirtioNet(MAC, backend=cable)) as rig:
            rig.negotiate(features, size=ENTRIES)
            yield Side(rig, cable, native=native)
    finally:
        cable.close()


@given(
    actions=st.lists(st.one_of(FRAMES, ROOM, ROOM, COMING), min_size=1, max_size=12),
    features=st.sampled_from([MRG_RXBUF, MRG_RXBUF | RING_INDIRECT_DESC, RING_INDIRECT_DESC, 0]),
)
def test_frames_have_the_same_outcome(actions: list[Offer | Come], features: int) -> None:
    with twins(features) as sides:
        for side in sides:
            for action in actions:
                action.do(side)
                side.rig.serve()
                side.collect()
        native, python = (side.outcome() for side in sides)
        assert native == python


@pytest.mark.parametrize("features", [MRG_RXBUF | RING_INDIRECT_DESC, RING_INDIRECT_DESC])
def test_c_passes_what_is_plain(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the comparison would be of Python with itself."""
    with _side(features, native=True) as side:
        monkeypatch.delattr("stratovirt.devices.virtio.netqueues.Receiver._read")
        monkeypatch.delattr("stratovirt.devices.virtio.netqueues.Sender._send")
        for number in range(3):
            Offer(RX, [Part(BUFFERS + number * SLOT, FULL, WRITE)], indirect=number == 1).do(side)
        for length in (26, 1514, MAX_FRAME):
            Come(length).do(side)
        Offer(TX, [Part(BUFFERS + 4 * SLOT, 12, 0), Part(BUFFERS + 5 * SLOT, 1514, 0)], indirect=True).do(
            side
        )
        side.rig.serve()
        side.collect()
        assert [used.length for used in side.rig.queue(RX).collect()] == [26, 1514, MAX_FRAME]
        assert side.sent == [b"\xee" * 1526]


def test_a_frame_of_many_buffers_is_told_as_such() -> None:
    with _side(MRG_RXBUF, native=True) as side:
        for number in range(5):
            Offer(RX, [Part(BUFFERS + number * SLOT, 0x4000, WRITE)], indirect=False).do(side)
        Come(MAX_FRAME).do(side)
        side.rig.serve()
        assert [used.length for used in side.rig.queue(RX).collect()] == [0x4000] * 4 + [MAX_FRAME - 0x1_0000]
        assert side.rig.memory.read(BUFFERS + len(HEADER) - 2, 2) == b"\5\0"


@pytest.mark.parametrize("native", [True, False])
def test_a_driver_that_counts_is_told_when_to_kick_and_interrupted_where_it_waits(native: bool) -> None:
    with _side(RING_EVENT_IDX, native=native) as side:
        queue = side.rig.queue(TX)
        for number in range(1, 4):
            rises = side.rig.irq.rises
            Offer(TX, [Part(BUFFERS, 100, 0)], indirect=False).do(side)
            side.rig.serve()
            asked = side.rig.memory.read(queue.used + 4 + 8 * queue.size, 2)  # avail_event
            assert int.from_bytes(asked, "little") == number
            assert side.rig.irq.rises == rises + 1
            side.rig.write(mmio.INTERRUPT_ACK, 1)
            assert len(queue.collect()) == 1  # which asks for the next interrupt

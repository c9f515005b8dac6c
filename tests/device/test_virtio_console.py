"""The guest's terminals: every byte both ways, and a line that is stuck delays its own console alone."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio.console import (
    CONSOLE_PORT,
    CONTROL_IN,
    CONTROL_OUT,
    DEVICE_ADD,
    DEVICE_READY,
    DEVICE_REMOVE,
    MAX_MESSAGES,
    PORT_OPEN,
    PORT_READY,
    VirtioConsole,
)
from stratovirt.devices.virtio.constants import NEEDS_RESET
from stratovirt.devices.virtio.mmio import STATUS
from tests.device.virtio import DriverRig, driving

IN, OUT = 0, 1
IN_1, OUT_1 = 4, 5
CONTROL = struct.Struct("<IHH")


class FakeLine:
    """A line with as much room as the test gives it."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.left = room
        self.got = b""
        self.input = b""
        self.on_input: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None

    def room(self) -> int:
        return self.left

    def put(self, data: bytes) -> None:
        assert len(data) <= self.left
        self.left -= len(data)
        self.got += data

    def has_input(self) -> bool:
        return bool(self.input)

    def take(self, limit: int) -> bytes:
        data, self.input = self.input[:limit], self.input[limit:]
        return data

    def type(self, data: bytes) -> None:
        self.input += data
        self.on_input()

    def make_room(self, room: int) -> None:
        self.left = room
        self.on_room()


def console(*lines: FakeLine, max_ports: int = 2) -> VirtioConsole:
    device = VirtioConsole(max_ports)
    for line in lines:
        device.plug(line)
    return device


def tell(rig: DriverRig, port: int, event: int, value: int = 1) -> None:
    rig.queue(CONTROL_OUT).send([CONTROL.pack(port, event, value)])


def messages(rig: DriverRig) -> list[tuple[int, int, int]]:
    """What the device says on the control queue; new buffers are offered for more."""
    rig.serve()
    used = rig.queue(CONTROL_IN).collect()
    for _ in used:
        rig.queue(CONTROL_IN).offer(into=[64])
    found = [CONTROL.unpack(one.data) for one in used]
    return [*found, *messages(rig)] if found else []


def come_up(rig: DriverRig) -> None:
    """As Linux does."""
    rig.negotiate()
    for _ in range(8):
        rig.queue(CONTROL_IN).offer(into=[64])
    tell(rig, 0xFFFF_FFFF, DEVICE_READY)


def opened(rig: DriverRig, port: int = 0) -> None:
    tell(rig, port, PORT_READY)
    tell(rig, port, PORT_OPEN)


def test_linux_is_told_of_its_consoles_in_the_order_that_it_wants() -> None:
    with driving(console(FakeLine(), FakeLine())) as rig:
        come_up(rig)
        assert messages(rig) == [(0, DEVICE_ADD, 1), (1, DEVICE_ADD, 1)]
        tell(rig, 1, PORT_READY)
        assert messages(rig) == [(1, CONSOLE_PORT, 1), (1, PORT_OPEN, 1)]


def test_bytes_go_both_ways_on_each_port() -> None:
    first, second = FakeLine(), FakeLine()
    with driving(console(first, second)) as rig:
        come_up(rig)
        opened(rig, 0)
        opened(rig, 1)
        rig.queue(OUT).send([b"one ", b"two"])
        rig.queue(OUT_1).send([b"second"])
        assert (first.got, second.got) == (b"one two", b"second")
        rig.queue(IN).offer(into=[4])
        rig.queue(IN).offer(into=[4, 4])
        first.type(b"typed at it")
        rig.serve()
        assert [used.data for used in rig.queue(IN).collect()] == [b"type", b"d at it"]
        rig.queue(IN_1).offer(into=[4])
        second.type(b"x")
        rig.serve()
        assert [used.data for used in rig.queue(IN_1).collect()] == [b"x"]


def test_a_driver_without_ports_has_one_console_and_says_nothing() -> None:
    line = FakeLine()
    with driving(console(line)) as rig:
        rig.negotiate(0)
        rig.queue(OUT).send([b"out"])
        line.type(b"in")
        assert rig.queue(IN).send(into=[8]).data == b"in"
        assert line.got == b"out"


def test_input_waits_until_the_guest_has_opened_the_port_and_has_a_buffer() -> None:
    line = FakeLine()
    with driving(console(line)) as rig:
        come_up(rig)
        rig.queue(IN).offer(into=[8])
        line.type(b"early")
        rig.serve()
        assert line.input == b"early"
        opened(rig)
        assert [used.data for used in rig.queue(IN).collect()] == [b"early"]
        line.type(b"no buffer")
        rig.serve()
        assert line.input == b"no buffer"
        assert rig.queue(IN).send(into=[16]).data == b"no buffer"


def test_output_waits_for_room_and_goes_on_in_the_middle_of_a_buffer() -> None:
    line = FakeLine(room=5)
    with driving(console(line)) as rig:
        come_up(rig)
        rig.queue(OUT).offer([b"hello ", b"world"])
        rig.serve()
        assert (line.got, rig.queue(OUT).collect()) == (b"hello", [])
        line.make_room(3)
        rig.serve()
        assert (line.got, rig.queue(OUT).collect()) == (b"hello wo", [])
        line.make_room(100)
        rig.serve()
        assert line.got == b"hello world"
        assert len(rig.queue(OUT).collect()) == 1


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10), st.lists(st.integers(1, 100)))
def test_output_is_whole_however_much_room_there_is_at_a_time(writes: list[bytes], rooms: list[int]) -> None:
    line = FakeLine(room=0)
    with driving(console(line)) as rig:
        come_up(rig)
        for data in writes:
            rig.queue(OUT).offer([data])
        for room in [*rooms, 1 << 20]:
            line.make_room(room)
            rig.serve()
        assert line.got == b"".join(writes)
        assert len(rig.queue(OUT).collect()) == len(writes)


def test_a_stuck_line_does_not_delay_another() -> None:
    stuck, free = FakeLine(room=0), FakeLine()
    with driving(console(stuck, free)) as rig:
        come_up(rig)
        rig.queue(OUT).offer([b"x"])
        rig.queue(OUT_1).send([b"y"])
        assert free.got == b"y"


def test_a_console_can_come_and_go_while_the_guest_runs() -> None:
    first, second = FakeLine(), FakeLine(room=1)
    with driving(console(first)) as rig:
        come_up(rig)
        messages(rig)
        device = rig.device
        assert isinstance(device, VirtioConsole)
        assert device.plug(second) == 1
        assert device.plug(FakeLine()) is None, "there is room for two"
        assert messages(rig) == [(1, DEVICE_ADD, 1)]
        opened(rig, 1)
        messages(rig)
        rig.queue(OUT_1).offer([b"half of it"])
        rig.serve()
        device.unplug(1)
        rig.queue(OUT_1).offer([b"lost"])
        assert messages(rig) == [(1, DEVICE_REMOVE, 1)]
        assert second.got == b"h"
        assert len(rig.queue(OUT_1).collect()) == 2, "a guest that waits for its output goes on"
        assert device.plug(FakeLine()) == 1


def test_a_reset_closes_ports_and_forgets_what_was_in_hand() -> None:
    line = FakeLine(room=2)
    with driving(console(line)) as rig:
        come_up(rig)
        opened(rig)
        rig.queue(OUT).offer([b"abc"])
        rig.serve()
        come_up(rig)
        line.make_room(100)
        line.type(b"x")
        rig.queue(IN).offer(into=[1])
        rig.serve()
        assert (line.got, line.input) == (b"ab", b"x")
        rig.queue(OUT).send([b"new"])
        assert line.got == b"abnew"


def test_a_saved_console_goes_on_in_the_middle_of_its_output() -> None:
    line, later = FakeLine(room=2), FakeLine()
    with driving(console(line)) as rig:
        come_up(rig)
        opened(rig)
        rig.queue(OUT).offer([b"abcdef"])
        rig.serve()
        saved, transport = rig.device.save(), rig.transport.save()
        with driving(console(later)) as there:
            there.memory.write(0, rig.memory.read(0, 0x200_0000))
            there.transport.load(there.transport.state_version, transport)
            there.device.load(1, saved)
            there.transport.ring(OUT)
            there.serve()
            assert later.got == b"cdef"
            assert there.device.save()["ports"] == {"0": [True, None, 0]}


@given(st.lists(st.one_of(st.binary(max_size=12), st.builds(
    CONTROL.pack, st.integers(0, 3), st.integers(0, 8), st.integers(0, 2)
)), max_size=40))  # fmt: skip
def test_any_control_messages_are_survived(written: list[bytes]) -> None:
    with driving(console(FakeLine())) as rig:
        rig.negotiate()
        for data in written:
            rig.queue(CONTROL_OUT).send([data] if data else [b"\0"])
        assert not rig.read(STATUS) & NEEDS_RESET


def test_a_driver_that_asks_and_never_listens_fills_no_memory() -> None:
    with driving(console(FakeLine())) as rig:
        rig.negotiate()
        for _ in range(MAX_MESSAGES):
            tell(rig, 0, DEVICE_READY)
            tell(rig, 0, PORT_READY)
        assert len(rig.device.save()["messages"]) == MAX_MESSAGES

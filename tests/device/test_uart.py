"""The serial port in C: whatever is done to it, it does what the readable one in Python does.

tests/device/test_serial.py says what that is; here both run side by side, each on a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratovirt.native._native import ffi

from stratovirt.chardev.port import OUTPUT_LIMIT, BytePort
from stratovirt.devices.serial import FIFO_DEPTH, IER, IER_RX, IER_THRE, LSR, LSR_THRE, RBR_THR, Serial
from stratovirt.native.line import Line
from stratovirt.native.uart import Uart
from tests.device.fakes import FakeIrq

GSI = 4


class NativeIrq:
    """A ``struct native_irq`` that drives a line in Python."""

    def __init__(self, line: FakeIrq) -> None:
        def set_level(_owner: object, gsi: int, level: bool) -> None:
            assert gsi == GSI
            line.set_level(level)

        self._function = ffi.callback("void(void *, uint32_t, bool)", set_level)
        self._words = ffi.new("uintptr_t[3]", [0, GSI, int(ffi.cast("uintptr_t", self._function))])
        self.address = int(ffi.cast("uintptr_t", self._words))


class Twins:
    """Both ports, done to alike; what they answer and how they drive their lines has to be equal."""

    def __init__(self, port: BytePort, reference_port: BytePort) -> None:
        self.irq, self.reference_irq = FakeIrq(), FakeIrq()
        self.marks: list[int] = []
        self.reference_marks: list[int] = []
        self._native_irq = NativeIrq(self.irq)
        self.uart = Uart(port.line, self._native_irq.address, self.marks.append)
        self.reference = Serial(reference_port, self.reference_irq, self.reference_marks.append)
        self._lines = (port.line, reference_port.line)

    def read(self, offset: int) -> None:
        assert self.uart.pio_read(offset, 1) == self.reference.pio_read(offset, 1)

    def write(self, offset: int, value: int) -> None:
        self.uart.pio_write(offset, 1, value)
        self.reference.pio_write(offset, 1, value)

    def flood(self, byte: int) -> None:
        """More output than there is room for."""
        for _ in range(OUTPUT_LIMIT + 1):
            self.uart.pio_write(RBR_THR, 1, byte)
            self._lines[1].put(byte)
        self.write(RBR_THR, byte)

    def receive(self, data: bytes) -> None:
        for line in self._lines:
            line.feed(data[: line.input_room()])
        self._tell()

    def attach(self, reader: bool) -> None:
        for line in self._lines:
            line.set_attached(reader)
        self._tell()

    def drain(self, count: int) -> None:
        """The reader takes so much of the output."""
        sent, expected = (_take(line, count) for line in self._lines)
        assert sent == expected
        self._tell()

    def reset(self) -> None:
        self.uart.reset()
        self.reference.reset()

    def move(self) -> None:
        """The state of the one in C goes through a snapshot."""
        state = self.uart.save()
        self.uart.reset()
        self.uart.load(self.uart.state_version, state)
        assert self.uart.save() == state

    def check(self) -> None:
        assert self.irq.level == self.reference_irq.level
        assert self.marks == self.reference_marks

    def _tell(self) -> None:
        self.uart.input_ready()
        self.reference.input_ready()


def _take(line: Line, count: int) -> bytes:
    output = line.peek(count)
    line.drop(len(output))
    return output


@contextmanager
def twins() -> Iterator[Twins]:
    ports = BytePort(), BytePort()
    yield Twins(*ports)
    for port in ports:
        port.close()


REGISTER, BYTE = st.integers(0, 7), st.integers(0, 255)
STEPS = st.one_of(
    st.tuples(st.just("read"), REGISTER),
    st.tuples(st.just("write"), REGISTER, BYTE),
    st.tuples(st.just("write"), st.sampled_from((RBR_THR, IER)), st.integers(0, 15)),
    st.tuples(st.just("receive"), st.binary(min_size=1, max_size=2 * FIFO_DEPTH)),
    st.tuples(st.just("attach"), st.booleans()),
    st.tuples(st.just("drain"), st.integers(1, 2 * OUTPUT_LIMIT)),
    st.tuples(st.just("reset")),
    st.tuples(st.just("move")),
)


@given(st.lists(STEPS, max_size=100))
def test_any_sequence_of_accesses_gives_the_same_values_bytes_and_interrupts(
    steps: list[tuple[str, int, int]],
) -> None:
    with twins() as both:
        for name, *arguments in steps:
            getattr(both, name)(*arguments)
            both.check()
        both.drain(2 * OUTPUT_LIMIT)


def test_without_room_it_shows_busy_and_interrupts_when_room_is_back() -> None:
    with twins() as both:
        both.attach(True)
        both.write(IER, IER_THRE)
        both.flood(0x41)
        both.check()
        assert not both.uart.pio_read(LSR, 1) & LSR_THRE
        assert not both.irq.level
        both.drain(1)
        both.check()
        assert both.irq.level
        both.drain(2 * OUTPUT_LIMIT)


def test_wide_input_fills_the_fifo_and_the_rest_waits_on_the_line() -> None:
    with twins() as both:
        both.write(IER, IER_RX)
        both.receive(bytes(range(200)))
        assert both.uart.save()["received"] == bytes(range(FIFO_DEPTH))
        assert bytes(both.uart.pio_read(RBR_THR, 1) for _ in range(200)) == bytes(range(200))


def test_a_saved_fifo_that_is_too_long_is_refused() -> None:
    with twins() as both:
        state = both.uart.save() | {"received": bytes(FIFO_DEPTH + 1)}
        with pytest.raises(ValueError, match="17 bytes in a FIFO of 16"):
            both.uart.load(1, state)

"""The 16550A: registers, FIFO and interrupts as its data sheet has them and Linux's driver expects."""

from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices import serial
from stratovirt.devices.serial import IER, IIR_FCR, LCR, LSR, MCR, MSR, RBR_THR, SCR, Serial
from tests.device.fakes import FakeIrq, FakePeer


def uart(limit: int = 1 << 20) -> tuple[Serial, FakePeer, FakeIrq]:
    peer, irq = FakePeer(limit), FakeIrq()
    return Serial(peer, irq), peer, irq


def receive(port: Serial, peer: FakePeer, data: bytes) -> None:
    peer.waiting.extend(data)
    port.input_ready()


def test_bytes_written_to_the_transmitter_reach_the_peer_in_order() -> None:
    port, peer, _ = uart()
    for byte in b"hello":
        port.pio_write(RBR_THR, 1, byte)
    assert bytes(peer.sent) == b"hello"


def test_received_bytes_are_read_in_order_and_then_no_data_is_ready() -> None:
    port, peer, _ = uart()
    receive(port, peer, b"abc")
    assert bytes(port.pio_read(RBR_THR, 1) for _ in range(3)) == b"abc"
    assert not port.pio_read(LSR, 1) & serial.LSR_DATA


def test_no_received_byte_is_lost_beyond_the_fifo() -> None:
    port, peer, _ = uart()
    data = bytes(range(256))
    receive(port, peer, data)
    assert bytes(port.pio_read(RBR_THR, 1) for _ in data) == data
    assert not port.pio_read(LSR, 1) & serial.LSR_OVERRUN


def test_the_receive_interrupt_stays_until_the_last_byte_is_read() -> None:
    port, peer, irq = uart()
    port.pio_write(IER, 1, serial.IER_RX)
    assert not irq.level
    receive(port, peer, b"xy")
    assert irq.level
    assert port.pio_read(IIR_FCR, 1) & 0x0F == serial.IIR_RX
    port.pio_read(RBR_THR, 1)
    assert irq.level
    port.pio_read(RBR_THR, 1)
    assert not irq.level


def test_enabling_the_transmit_interrupt_with_an_empty_transmitter_interrupts_at_once() -> None:
    port, _, irq = uart()
    port.pio_write(IER, 1, serial.IER_THRE)
    assert irq.level
    assert port.pio_read(IIR_FCR, 1) & 0x0F == serial.IIR_THRE
    assert not irq.level, "reading IIR acknowledges THRE"
    port.pio_write(RBR_THR, 1, 65)
    assert irq.level


def test_a_peer_without_room_shows_as_a_busy_transmitter_and_interrupts_when_room_is_back() -> None:
    port, peer, irq = uart(limit=1)
    port.pio_write(IER, 1, serial.IER_THRE)
    port.pio_write(RBR_THR, 1, 65)
    assert not port.pio_read(LSR, 1) & serial.LSR_THRE
    assert not irq.level
    peer.limit = 2
    port.output_ready()
    assert port.pio_read(LSR, 1) & serial.LSR_THRE
    assert irq.level


def test_received_data_has_priority_over_an_empty_transmitter() -> None:
    port, peer, _ = uart()
    port.pio_write(IER, 1, serial.IER_THRE | serial.IER_RX)
    receive(port, peer, b"a")
    assert port.pio_read(IIR_FCR, 1) & 0x0F == serial.IIR_RX
    port.pio_read(RBR_THR, 1)
    assert port.pio_read(IIR_FCR, 1) & 0x0F == serial.IIR_THRE
    assert port.pio_read(IIR_FCR, 1) & 0x0F == serial.IIR_NONE


def test_loopback_wires_modem_control_to_modem_status_as_autoconfig_checks() -> None:
    port, peer, _ = uart()
    port.pio_write(MCR, 1, serial.MCR_LOOP | serial.MCR_OUT2 | serial.MCR_RTS)
    assert port.pio_read(MSR, 1) & 0xF0 == serial.MSR_DCD | serial.MSR_CTS
    port.pio_write(RBR_THR, 1, 0x42)
    assert port.pio_read(RBR_THR, 1) == 0x42
    assert not peer.sent


def test_the_divisor_latch_hides_data_and_interrupt_enable() -> None:
    port, peer, _ = uart()
    port.pio_write(IER, 1, 0x05)
    port.pio_write(LCR, 1, serial.LCR_DLAB)
    port.pio_write(RBR_THR, 1, 0x34)
    port.pio_write(IER, 1, 0x12)
    assert (port.pio_read(RBR_THR, 1), port.pio_read(IER, 1)) == (0x34, 0x12)
    port.pio_write(LCR, 1, 3)
    assert port.pio_read(IER, 1) == 0x05
    assert not peer.sent


def test_the_chip_identifies_as_a_16550a() -> None:
    port, _, _ = uart()
    port.pio_write(IIR_FCR, 1, 1)
    assert port.pio_read(IIR_FCR, 1) & 0xC0 == 0xC0
    port.pio_write(SCR, 1, 0xA5)
    assert port.pio_read(SCR, 1) == 0xA5


def test_scratch_writes_are_told_to_the_listener() -> None:
    marks: list[int] = []
    port = Serial(FakePeer(), FakeIrq(), marks.append)
    port.pio_write(SCR, 1, 2)
    assert marks == [2]


def test_reset_drops_the_interrupt_and_what_was_received() -> None:
    port, peer, irq = uart()
    port.pio_write(IER, 1, 3)
    receive(port, peer, b"z")
    port.reset()
    assert not irq.level
    assert port.pio_read(IER, 1) == 0


ACCESSES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 255), st.binary(max_size=4)), max_size=60
)


@given(accesses=ACCESSES)
def test_any_register_sequence_keeps_values_in_a_byte_and_loses_no_output(
    accesses: list[tuple[bool, int, int, bytes]],
) -> None:
    port, peer, irq = uart()
    expected = bytearray()
    dlab = loop = False
    for write, offset, value, arriving in accesses:
        receive(port, peer, arriving)
        if not write:
            assert 0 <= port.pio_read(offset, 1) <= 0xFF
            continue
        if offset == RBR_THR and not dlab and not loop:
            expected.append(value)
        dlab = bool(value & 0x80) if offset == LCR else dlab
        loop = bool(value & 0x10) if offset == MCR else loop
        port.pio_write(offset, 1, value)
    assert peer.sent == expected
    port.pio_write(LCR, 1, 0)
    port.pio_write(IER, 1, 0)
    assert not irq.level, "with every interrupt masked the line is low"

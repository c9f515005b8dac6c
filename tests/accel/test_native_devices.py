"""A device in C is reached from guest code, on either accelerator, without Python between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.protocol import RunEnd
from stratovirt.accel.tcg.accelerator import TcgAccelerator
from stratovirt.chardev.port import BytePort
from stratovirt.devices.serial import IER, IER_THRE, IIR_FCR, LSR, LSR_IDLE, LSR_THRE, RBR_THR, SCR
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.native.uart import Uart
from tests.accel.guests import (
    DATA,
    EOI,
    HALT_FOREVER,
    IRETQ,
    Access,
    done,
    enable_lapic,
    in_al,
    load_idt,
    mask_pics,
    mov_eax,
    out_al,
    out_byte,
    route_ioapic,
    store32,
)
from tests.accel.machine import RAM, Machine

PORT, GSI, VECTOR = 0x80, 4, 0x40
SAID = 0x10


@pytest.fixture(params=["tcg", "kvm"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if request.param == "kvm":
        try:
            KvmSystem().close()
        except AcceleratorUnavailable as reason:
            pytest.skip(str(reason))
    machine = Machine({"tcg": TcgAccelerator, "kvm": KvmAccelerator}[request.param], 1, RAM)
    yield machine
    machine.close()


@pytest.fixture
def port() -> Iterator[BytePort]:
    port = BytePort()
    yield port
    port.close()


@pytest.fixture
def uart(machine: Machine, port: BytePort) -> Uart:
    uart = Uart(port.line, machine.accelerator.native_irq(GSI), lambda _value: None)
    machine.accelerator.add_native_ports(PORT, 8, uart.native)
    return uart


def say_al() -> bytes:
    return out_al(SAID)


def test_bytes_of_the_guest_reach_the_line_and_not_the_bus(
    machine: Machine, uart: Uart, port: BytePort
) -> None:
    code = b"".join(out_byte(PORT + RBR_THR, byte) for byte in b"hello") + in_al(PORT + LSR) + say_al()
    assert machine.run(code + done()) is RunEnd.KICKED
    assert port.line.peek(100) == b"hello"
    assert machine.bus.accesses == [Access("out", SAID, 1, LSR_THRE | LSR_IDLE)]


def test_a_string_of_bytes_arrives_whole(machine: Machine, uart: Uart, port: BytePort) -> None:
    text = bytes(range(1, 201))
    machine.memory.write(DATA, text)
    rep_outsb = b"\xbe" + DATA.to_bytes(4, "little") + b"\xb9" + len(text).to_bytes(4, "little") + b"\xf3\x6e"
    code = b"\x66\xba" + (PORT + RBR_THR).to_bytes(2, "little") + rep_outsb  # mov dx, port
    assert machine.run(code + done()) is RunEnd.KICKED
    assert port.line.peek(1000) == text


@pytest.mark.parametrize(
    ("code", "access"),
    [
        (out_byte(PORT + SCR, 0x55), Access("out", PORT + SCR, 1, 0x55)),
        (mov_eax(0x1234) + b"\x66\xe7" + bytes([PORT]), Access("out", PORT, 2, 0x1234)),
        (b"\x66\xe5" + bytes([PORT + LSR]), Access("in", PORT + LSR, 2, 0xFFFF)),
    ],
    ids=["declined", "wide write", "wide read"],
)
def test_what_the_device_declines_reaches_the_bus(
    machine: Machine, uart: Uart, code: bytes, access: Access
) -> None:
    assert machine.run(code + done()) is RunEnd.KICKED
    assert machine.bus.accesses == [access]


def handler() -> dict[int, bytes]:
    """Says what IIR says."""
    return {VECTOR: in_al(PORT + IIR_FCR) + say_al() + store32(EOI, 0) + IRETQ}


def interrupted(*setup: bytes) -> bytes:
    return load_idt() + mask_pics() + enable_lapic() + route_ioapic(GSI, VECTOR) + b"".join(setup)


def test_its_interrupt_reaches_the_guest(machine: Machine, uart: Uart) -> None:
    machine.start(interrupted(out_byte(PORT + IER, IER_THRE)) + HALT_FOREVER, handler())
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(SAID) == [0x02])


def test_input_from_another_thread_interrupts_the_guest(machine: Machine, uart: Uart, port: BytePort) -> None:
    read = {VECTOR: in_al(PORT + RBR_THR) + say_al() + store32(EOI, 0) + IRETQ}
    code = interrupted(out_byte(PORT + IER, 1), out_byte(SAID, 0)) + HALT_FOREVER
    machine.start(code, read)
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(SAID) == [0])
        for count, byte in enumerate(b"abc", 2):
            port.line.feed(bytes([byte]))
            uart.input_ready()
            machine.bus.wait_for(lambda count=count: len(machine.bus.outs(SAID)) == count)  # type: ignore[misc]
    assert bytes(machine.bus.outs(SAID)) == b"\0abc"


def test_a_failing_interrupt_controller_ends_the_run(port: BytePort) -> None:
    machine = Machine(TcgAccelerator, 1, RAM)
    uart = Uart(port.line, machine.accelerator.native_irq(GSI), lambda _value: None)
    machine.accelerator.add_native_ports(PORT, 8, uart.native)

    def fail(_gsi: int, _level: bool) -> None:
        raise ZeroDivisionError

    chip = machine.accelerator._chip  # type: ignore[attr-defined]
    chip.set_line = fail
    with pytest.raises(ZeroDivisionError):
        machine.run(out_byte(PORT + IER, IER_THRE) + HALT_FOREVER)
    del chip.set_line
    machine.close()


def test_a_fifth_device_is_refused(machine: Machine, uart: Uart) -> None:
    add: Callable[[int, int, int], None] = machine.accelerator.add_native_ports
    for first in (0x88, 0x90, 0x98):
        add(first, 8, uart.native)
    with pytest.raises(MemoryError):
        add(0xA0, 8, uart.native)

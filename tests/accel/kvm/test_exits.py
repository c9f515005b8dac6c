"""Every way out of the guest reaches the machine as the protocol says."""

from __future__ import annotations

import struct

import pytest

from stratovirt.accel.protocol import RunEnd
from stratovirt.errors import AcceleratorError
from tests.accel.guests import (
    CODE,
    DATA,
    MMIO,
    UD2,
    Access,
    done,
    in_al,
    load_idt,
    mov_eax,
    out_al,
    out_byte,
    store32,
)
from tests.accel.kvm.conftest import Machine

RCX, RSI, RDI = b"\xb9", b"\xbe", b"\xbf"  # mov r32, imm32
DX = b"\x66\xba"  # mov dx, imm16

OUT_DX = {1: b"\xee", 2: b"\x66\xef", 4: b"\xef"}
IN_DX = {1: b"\xec", 2: b"\x66\xed", 4: b"\xed"}
OUTS = {1: b"\xf3\x6e", 2: b"\xf3\x66\x6f", 4: b"\xf3\x6f"}
INS = {1: b"\xf3\x6c", 2: b"\xf3\x66\x6d", 4: b"\xf3\x6d"}
STORE = {1: b"\x88\x03", 2: b"\x66\x89\x03", 4: b"\x89\x03", 8: b"\x48\x89\x03"}  # mov [rbx], a
LOAD = {1: b"\x8a\x03", 2: b"\x66\x8b\x03", 4: b"\x8b\x03", 8: b"\x48\x8b\x03"}  # mov a, [rbx]
PORT = 0x510
PATTERN = 0x8877_6655_4433_2211
POPCNT_MEMORY = b"\xf3\x0f\xb8\x03"  # popcnt eax, [rbx]: in no KVM's emulator


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def low(value: int, size: int) -> int:
    return value & (1 << 8 * size) - 1


@pytest.mark.parametrize("size", [1, 2, 4])
def test_out_reaches_the_bus_in_its_size(machine: Machine, size: int) -> None:
    end = machine.run(mov_eax(low(PATTERN, 4)) + DX + u16(PORT) + OUT_DX[size] + done())
    assert end is RunEnd.KICKED
    assert machine.bus.accesses == [Access("out", PORT, size, low(PATTERN, size))]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_in_gets_what_the_bus_answers(machine: Machine, size: int) -> None:
    machine.bus.answers[PORT] = PATTERN
    machine.run(mov_eax(0) + DX + u16(PORT) + IN_DX[size] + done())
    assert machine.bus.accesses == [Access("in", PORT, size, low(PATTERN, size))]
    assert machine.vcpu.registers()["rax"] == low(PATTERN, size)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_string_output_arrives_item_by_item(machine: Machine, size: int) -> None:
    items = [low(PATTERN >> 8 * i, size) for i in range(5)]
    machine.memory.write(DATA, b"".join(item.to_bytes(size, "little") for item in items))
    machine.run(RSI + u32(DATA) + RCX + u32(len(items)) + DX + u16(PORT) + OUTS[size] + done())
    assert machine.bus.accesses == [Access("out", PORT, size, item) for item in items]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_string_input_fills_memory(machine: Machine, size: int) -> None:
    machine.bus.answers[PORT] = PATTERN
    machine.run(RDI + u32(DATA) + RCX + u32(5) + DX + u16(PORT) + INS[size] + done())
    item = low(PATTERN, size).to_bytes(size, "little")
    assert machine.memory.read(DATA, 6 * size) == 5 * item + bytes(size)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_mmio_write_reaches_the_bus_in_its_size(machine: Machine, size: int) -> None:
    value = b"\x48\xb8" + struct.pack("<Q", PATTERN)  # mov rax, imm64
    machine.run(value + b"\xbb" + u32(MMIO) + STORE[size] + done())
    assert machine.bus.accesses == [Access("write", MMIO, size, low(PATTERN, size))]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_mmio_read_gets_what_the_bus_answers(machine: Machine, size: int) -> None:
    machine.bus.answers[MMIO] = PATTERN
    machine.run(mov_eax(0) + b"\xbb" + u32(MMIO) + LOAD[size] + done())
    assert machine.bus.accesses == [Access("read", MMIO, size, low(PATTERN, size))]
    assert machine.vcpu.registers()["rax"] == low(PATTERN, size)


def test_mmio_write_across_a_page_arrives_whole_though_in_pieces(machine: Machine) -> None:
    address = MMIO + 0x1000 - 3
    machine.run(store32(address, low(PATTERN, 4)) + done())
    written = {
        access.address + i: access.value >> 8 * i & 0xFF
        for access in machine.bus.accesses
        for i in range(access.size)
    }
    assert written == {address + i: PATTERN >> 8 * i & 0xFF for i in range(4)}
    assert {access.size for access in machine.bus.accesses} <= {1, 2, 4}


def test_exception_of_the_bus_comes_out_unchanged(machine: Machine) -> None:
    failure = ValueError("the device is broken")

    def fail(_value: int) -> None:
        raise failure

    machine.bus.reactions[PORT] = fail
    with pytest.raises(ValueError, match="the device is broken") as caught:
        machine.run(DX + u16(PORT) + OUT_DX[1] + done())
    assert caught.value is failure


def test_kick_out_of_an_input_still_finishes_the_instruction(machine: Machine) -> None:
    """The state is whole at KICKED: the register holds the answer, RIP is behind the instruction."""
    machine.bus.answers[0x60] = 0x5A
    code = mov_eax(0) + in_al(0x60) + done()
    original = machine.bus.pio_read

    def read_and_kick(port: int, size: int) -> int:
        machine.kick()
        return original(port, size)

    machine.bus.pio_read = read_and_kick  # type: ignore[method-assign]
    assert machine.run(code) is RunEnd.KICKED
    registers = machine.vcpu.registers()
    assert registers["rax"] == 0x5A
    assert registers["rip"] == CODE + len(mov_eax(0) + in_al(0x60))


def test_triple_fault_ends_the_run(machine: Machine) -> None:
    code = load_idt() + UD2  # every gate of the IDT is absent: #UD, #NP, double fault, triple fault
    assert machine.run(code) is RunEnd.TRIPLE_FAULT


def test_instruction_that_kvm_cannot_emulate_is_reported_with_registers_and_bytes(machine: Machine) -> None:
    address = b"\xbb" + u32(MMIO)
    with pytest.raises(AcceleratorError) as caught:
        machine.run(address + POPCNT_MEMORY + done())
    rip = CODE + len(address)
    assert str(caught.value).startswith("KVM internal error, suberror 1 (emulation failure): vcpu-0 at rip")
    assert f"rip {rip:#x}, instruction bytes f3 0f b8 03" in caught.value.reason
    assert caught.value.registers["rip"] == rip
    assert caught.value.registers["rbx"] == MMIO


def test_failure_leaves_the_machine_usable(machine: Machine) -> None:
    with pytest.raises(AcceleratorError):
        machine.run(b"\xbb" + u32(MMIO) + POPCNT_MEMORY)
    machine.accelerator.reset()
    assert machine.run(out_byte(0x80, 1) + done()) is RunEnd.KICKED
    assert machine.bus.outs(0x80) == [1]


def test_code_outside_ram_is_reported_without_bytes(machine: Machine) -> None:
    jump = b"\xb8" + u32(MMIO) + b"\xff\xe0"  # mov eax, MMIO; jmp rax
    with pytest.raises(AcceleratorError, match=f"rip {MMIO:#x}, instruction bytes not readable"):
        machine.run(jump)


def test_registers_are_named_and_right(machine: Machine) -> None:
    machine.run(mov_eax(0x1234) + out_al(0x80) + done())
    registers = machine.vcpu.registers()
    assert registers["rax"] == 0x1234
    assert registers["rsi"] == DATA
    assert (registers["cs"], registers["ss"], registers["cs_base"]) == (0x10, 0x18, 0)
    assert registers["cr0"] & 0x8000_0001 == 0x8000_0001
    assert registers["efer"] == 0x500
    assert {"r15", "rflags", "cr2", "cr3", "cr4"} <= registers.keys()

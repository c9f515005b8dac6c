"""Exceptions arrive as the manual says: vector, error code, CR2, CPL and stack."""

from __future__ import annotations

import pytest

from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import CODE, IRETQ, UD2, Access, done, load_idt, mov_eax
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import (
    KERNEL_STACK_TOP,
    MOV_RAX_CR2,
    USER_CODE,
    VALUE,
    boot_with_user,
    enter_user,
    load64,
    load_stack,
    say_eax,
    store64,
)

UNMAPPED = 0x4000_0000
SAY_FRAME_OF_FAULT = load_stack(0) + say_eax() + load_stack(8) + say_eax() + load_stack(16) + say_eax()
"""Error code, RIP, CS."""


@pytest.mark.parametrize(("access", "error_code"), [(load64(UNMAPPED), 0), (store64(UNMAPPED, 1), 2)])
def test_page_fault_of_the_kernel_tells_access_and_address(
    machine: Machine, access: bytes, error_code: int
) -> None:
    handler = load_stack(0) + say_eax() + MOV_RAX_CR2 + say_eax() + done()
    assert machine.run(load_idt() + access, {14: handler}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [error_code, UNMAPPED]


def test_page_fault_of_the_user_switches_to_the_kernel_stack(machine: Machine) -> None:
    handler = SAY_FRAME_OF_FAULT + b"\x89\xe0" + say_eax() + done()
    entry = boot_with_user(machine.memory, load_idt() + enter_user(), store64(UNMAPPED, 1), {14: handler})
    machine.accelerator.start(entry)
    assert machine.thread.run() is RunEnd.KICKED
    frame_size = 6 * 8  # SS, RSP, RFLAGS, CS, RIP, error code
    assert machine.bus.outs(VALUE) == [6, USER_CODE + 10, 0x33, KERNEL_STACK_TOP - frame_size]


def test_general_protection_names_the_selector(machine: Machine) -> None:
    load_ds = b"\x66\xb8\x50\x00\x8e\xd8"  # mov ax, 0x50; mov ds, ax
    assert machine.run(load_idt() + load_ds, {13: SAY_FRAME_OF_FAULT + done()}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0x50, CODE + 8 + 4, 0x10]


def test_invalid_opcode_is_delivered_at_the_instruction(machine: Machine) -> None:
    handler = load_stack(0) + say_eax() + b"\x48\x83\x04\x24\x02" + IRETQ  # add qword [rsp], 2: behind ud2
    assert machine.run(load_idt() + UD2 + mov_eax(7) + say_eax() + done(), {6: handler}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [CODE + 8, 7]


def test_privileged_instruction_of_the_user_is_a_general_protection(machine: Machine) -> None:
    entry = boot_with_user(
        machine.memory, load_idt() + enter_user(), b"\xf4", {13: SAY_FRAME_OF_FAULT + done()}
    )
    machine.accelerator.start(entry)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0, USER_CODE, 0x33]


def test_software_interrupt_returns_behind_the_instruction(machine: Machine) -> None:
    handler = mov_eax(1) + say_eax() + IRETQ
    code = load_idt() + b"\xcc" + b"\xcd\x40" + mov_eax(2) + say_eax() + done()
    assert machine.run(code, {3: handler, 0x40: handler}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 2]


def test_fault_while_delivering_becomes_a_double_fault(machine: Machine) -> None:
    code = load_idt() + UD2  # no gate for #UD: #GP without a gate either
    assert machine.run(code, {8: load_stack(0) + say_eax() + done()}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0]


def test_triple_fault_ends_the_run_and_reset_makes_the_vcpu_usable_again(machine: Machine) -> None:
    assert machine.run(UD2) is RunEnd.TRIPLE_FAULT
    machine.accelerator.reset()
    assert machine.run(mov_eax(5) + say_eax() + done()) is RunEnd.KICKED
    assert machine.bus.accesses == [Access("out", VALUE, 4, 5)]

"""SYSCALL, SYSRET and SYSENTER change privilege, stack and flags as the manual says."""

from __future__ import annotations

from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import CODE, done, load_idt, mov_eax
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import (
    KERNEL_STACK_TOP,
    MOV_EAX_CS,
    MOV_EAX_ESP,
    MOV_EAX_R11,
    MOV_EAX_RCX,
    MOV_EAX_SS,
    STAR,
    SYSCALL,
    SYSENTER,
    SYSRETQ,
    USER_CODE,
    VALUE,
    boot_with_user,
    enter_user,
    load_stack,
    say_eax,
    write_msr,
)

EFER, MSR_STAR, LSTAR, FMASK = 0xC000_0080, 0xC000_0081, 0xC000_0082, 0xC000_0084
LMA_LME_SCE = 0x501
KERNEL_ENTRY = CODE + 0xC00
IOPL_3, DF = 3 << 12, 1 << 10


def enable_syscall(fmask: int = 0) -> bytes:
    return b"".join(
        write_msr(index, value)
        for index, value in ((EFER, LMA_LME_SCE), (MSR_STAR, STAR), (LSTAR, KERNEL_ENTRY), (FMASK, fmask))
    )


def run_user(machine: Machine, setup: bytes, user: bytes, kernel: bytes, ud: bytes = b"") -> RunEnd:
    machine.accelerator.start(
        boot_with_user(machine.memory, load_idt() + setup + enter_user(), user, {6: ud} if ud else {})
    )
    machine.memory.write(KERNEL_ENTRY, kernel)
    return machine.thread.run()


def test_syscall_enters_the_kernel_and_sysret_goes_back(machine: Machine) -> None:
    kernel = MOV_EAX_CS + say_eax() + MOV_EAX_SS + say_eax() + SYSRETQ
    user = SYSCALL + MOV_EAX_CS + say_eax() + MOV_EAX_SS + say_eax() + done()
    assert run_user(machine, enable_syscall(), user, kernel) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0x10, 0x18, 0x33, 0x2B]


def test_syscall_saves_rip_and_flags_and_masks_the_flags(machine: Machine) -> None:
    push_flags_pop_rax = b"\x9c\x58"
    kernel = MOV_EAX_RCX + say_eax() + MOV_EAX_R11 + say_eax() + push_flags_pop_rax + say_eax() + done()
    user = b"\xfd\xf9" + SYSCALL  # std; stc
    assert run_user(machine, enable_syscall(fmask=DF | IOPL_3), user, kernel) is RunEnd.KICKED
    flags = 2 | 1 | DF | IOPL_3
    assert machine.bus.outs(VALUE) == [USER_CODE + 4, flags, 3]


def test_flags_of_the_user_do_not_come_back_in_the_kernel(machine: Machine) -> None:
    clc_cld_pushf_pop_rax = b"\xf8\xfc\x9c\x58"
    user = b"\xfd\xf9" + SYSCALL  # std; stc
    kernel = clc_cld_pushf_pop_rax + say_eax() + done()
    assert run_user(machine, enable_syscall(fmask=IOPL_3), user, kernel) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [2]


def test_syscall_without_permission_is_an_invalid_opcode(machine: Machine) -> None:
    ud = load_stack(0) + say_eax() + done()
    assert run_user(machine, write_msr(EFER, 0x500), SYSCALL, b"", ud) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [USER_CODE]


def test_sysenter_enters_the_kernel_on_its_stack(machine: Machine) -> None:
    setup = write_msr(0x174, 0x10) + write_msr(0x175, KERNEL_STACK_TOP) + write_msr(0x176, KERNEL_ENTRY)
    kernel = MOV_EAX_CS + say_eax() + MOV_EAX_ESP + say_eax() + done()
    assert run_user(machine, setup, mov_eax(0) + SYSENTER, kernel) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0x10, KERNEL_STACK_TOP]

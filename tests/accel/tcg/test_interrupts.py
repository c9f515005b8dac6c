"""Interrupts reach the vCPU that they are for, when it takes them, and wake it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import (
    AP_ENTRY,
    CLI,
    EOI,
    HALT_FOREVER,
    HLT,
    ICR_LOW,
    IRETQ,
    LAPIC,
    MMIO,
    STI,
    done,
    enable_lapic,
    load_idt,
    mask_pics,
    mov_eax,
    out_al,
    route_ioapic,
    start_ap,
    store32,
)
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import RDTSC, VALUE, WRMSR, mov_ecx, say_eax

VECTOR = 0x40
TSC_DEADLINE_MSR = 0x6E0
LVT_TIMER, INITIAL_COUNT, DIVIDE = LAPIC + 0x320, LAPIC + 0x380, LAPIC + 0x3E0
PERIODIC, DEADLINE_MODE = 1 << 17, 2 << 17
SAY_AND_RETURN = mov_eax(VECTOR) + say_eax() + store32(EOI, 0) + IRETQ


def arm_deadline(ticks: int) -> bytes:
    """TSC deadline = now + ``ticks`` (below 2³²)."""
    add = b"\x05" + struct.pack("<I", ticks) + b"\x83\xd2\x00"  # add eax, ticks; adc edx, 0
    return RDTSC + add + mov_ecx(TSC_DEADLINE_MSR) + WRMSR


def test_the_deadline_timer_wakes_a_halted_vcpu(machine: Machine) -> None:
    code = load_idt() + mask_pics() + enable_lapic() + store32(LVT_TIMER, DEADLINE_MODE | VECTOR)
    code += b"".join(arm_deadline(1_000_000) + STI + HLT + CLI for _ in range(3)) + done()
    assert machine.run(code, {VECTOR: SAY_AND_RETURN}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [VECTOR] * 3


def test_a_timer_interrupts_a_loop(machine: Machine) -> None:
    code = load_idt() + mask_pics() + enable_lapic() + store32(LVT_TIMER, DEADLINE_MODE | VECTOR)
    code += arm_deadline(1_000_000) + STI + b"\xeb\xfe"
    assert machine.run(code, {VECTOR: mov_eax(1) + say_eax() + done()}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1]


def test_a_periodic_timer_goes_on(machine: Machine) -> None:
    code = load_idt() + mask_pics() + enable_lapic() + store32(DIVIDE, 0xB)
    code += store32(LVT_TIMER, PERIODIC | VECTOR) + store32(INITIAL_COUNT, 1_000_000) + STI
    code += (HLT * 5) + CLI + done()
    assert machine.run(code, {VECTOR: SAY_AND_RETURN}) is RunEnd.KICKED
    assert len(machine.bus.outs(VALUE)) >= 5


def test_a_disabled_interrupt_waits_for_sti_and_one_instruction_more(machine: Machine) -> None:
    code = load_idt() + mask_pics() + enable_lapic() + route_ioapic(5, VECTOR) + mov_eax(1) + out_al(0x51)
    code += mov_eax(2) + say_eax() + STI + mov_eax(3) + say_eax() + mov_eax(4) + say_eax() + done()
    machine.bus.reactions[0x51] = lambda _: machine.accelerator.irq_line(5).set_level(True)
    handler = b"\x50" + SAY_AND_RETURN[:-2] + b"\x58" + IRETQ
    assert machine.run(code, {VECTOR: handler}) is RunEnd.KICKED
    outs = machine.bus.outs(VALUE)
    assert outs[0] == 2
    assert sorted(outs) == [2, 3, 4, VECTOR]


def test_a_line_driven_by_another_thread_wakes_the_vcpu(machine: Machine) -> None:
    code = load_idt() + mask_pics() + enable_lapic() + route_ioapic(5, VECTOR) + mov_eax(1) + say_eax()
    machine.start(code + HALT_FOREVER, {VECTOR: SAY_AND_RETURN})
    line = machine.accelerator.irq_line(5)
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(VALUE) == [1])
        for count in range(1, 50):
            line.set_level(True)
            line.set_level(False)
            machine.bus.wait_for(lambda count=count: len(machine.bus.outs(VALUE)) == 1 + count)  # type: ignore[misc]
    assert machine.bus.outs(VALUE)[1:] == [VECTOR] * 49


def test_an_nmi_needs_no_sti(machine: Machine) -> None:
    handler = mov_eax(2) + say_eax() + done()
    code = load_idt() + enable_lapic() + CLI + store32(ICR_LOW, 0x40400) + b"\xeb\xfe"  # NMI to itself
    assert machine.run(code, {2: handler}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [2]


def test_cr8_is_the_task_priority(machine: Machine) -> None:
    mov_cr8_eax, mov_eax_cr8 = b"\x44\x0f\x22\xc0", b"\x44\x0f\x20\xc0"
    read_tpr = b"\xbb" + struct.pack("<I", LAPIC + 0x80) + b"\x8b\x03"
    code = mov_eax(5) + mov_cr8_eax + mov_eax(0) + mov_eax_cr8 + say_eax() + read_tpr + say_eax() + done()
    assert machine.run(code) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [5, 0x50]


def test_a_matching_write_is_an_eventfd_signal_and_nothing_else(machine: Machine) -> None:
    code = store32(MMIO + 0x50, 1) + store32(MMIO + 0x50, 1) + store32(MMIO + 0x50, 2) + done()
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        machine.accelerator.add_ioeventfd(fd, MMIO + 0x50, 4, 1)
        assert machine.run(code) is RunEnd.KICKED
        assert os.eventfd_read(fd) == 2
        assert [access.value for access in machine.bus.accesses] == [2]
        machine.accelerator.remove_ioeventfd(fd, MMIO + 0x50, 4, 1)
        assert machine.run(code) is RunEnd.KICKED
        assert [access.value for access in machine.bus.accesses] == [2, 1, 1, 2]
    finally:
        os.close(fd)


AP_SETS_FLAG = b"\xc6\x06\x00\x90\x01" + b"\xeb\xfe"
"""Real mode: ``mov byte [0x9000], 1; l: jmp l``"""


def ap_says(value: int) -> bytes:
    """Real mode: ``mov eax, value; out VALUE, eax; cli; l: hlt; jmp l``"""
    return b"\x66\xb8" + struct.pack("<I", value) + b"\x66\xe7" + bytes([VALUE]) + CLI + HLT + b"\xeb\xfd"


@pytest.mark.parametrize("vcpus", [2, 4])
def test_sipi_starts_each_vcpu_once(new_machine: Callable[..., Machine], vcpus: int) -> None:
    machine = new_machine(vcpus=vcpus)
    starts = b"".join(start_ap(cpu) for cpu in range(1, vcpus))
    machine.start(load_idt() + enable_lapic() + starts + starts[len(starts) - 22 :] + HALT_FOREVER)
    machine.memory.write(AP_ENTRY, ap_says(9))
    assert [vcpu.halted for vcpu in machine.accelerator.vcpus] == [False] + [True] * (vcpus - 1)
    with machine.running():
        machine.bus.wait_for(lambda: len(machine.bus.outs(VALUE)) == vcpus - 1)
    assert machine.bus.outs(VALUE) == [9] * (vcpus - 1)


def test_init_stops_a_running_vcpu_and_sipi_starts_it_again(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    machine.start(load_idt() + enable_lapic() + start_ap(1) + wait_until_said() + start_ap(1) + HALT_FOREVER)
    machine.memory.write(
        AP_ENTRY, ap_says(9)[:-4] + b"\xc6\x06\x00\x90\x01" + b"\xeb\xfe"
    )  # mov byte [0x9000], 1
    with machine.running():
        machine.bus.wait_for(lambda: len(machine.bus.outs(VALUE)) == 2)
    assert machine.bus.outs(VALUE) == [9, 9]


def wait_until_said() -> bytes:
    """``l: pause; cmp byte [0x9000], 1; jne l``"""
    compare = b"\xf3\x90" + b"\x80\x3c\x25" + struct.pack("<IB", 0x9000, 1)
    return compare + b"\x75" + struct.pack("b", -(len(compare) + 2))


def test_a_vcpu_that_spins_without_pause_loses_its_turn_at_the_end_of_its_slice(
    new_machine: Callable[..., Machine],
) -> None:
    machine = new_machine(vcpus=2)
    wait = b"\x80\x3c\x25" + struct.pack("<IB", 0x9000, 1)
    wait += b"\x75" + struct.pack("b", -(len(wait) + 2))  # l: cmp byte [0x9000], 1; jne l
    machine.start(load_idt() + enable_lapic() + start_ap(1) + wait + mov_eax(1) + say_eax() + done())
    machine.memory.write(AP_ENTRY, AP_SETS_FLAG)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1]

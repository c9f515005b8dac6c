"""A machine's whole state can be taken out at any moment, put into a fresh machine, and goes on there."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from stratovirt.errors import AcceleratorError
from stratovirt.vmstate import Section, decode, encode
from tests.accel.guests import (
    AP_ENTRY,
    CODE,
    DATA,
    DONE,
    EOI,
    HALT_FOREVER,
    IRETQ,
    LAPIC,
    SPIN,
    done,
    enable_lapic,
    load_idt,
    mask_pics,
    mov_eax,
    out_al,
    out_byte,
    route_ioapic,
    start_ap,
    store32,
)
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import (
    MOV_EAX_CS,
    RDTSC,
    SYSCALL,
    VALUE,
    boot_with_user,
    enter_user,
    say_eax,
    write_msr,
)

LVT_TIMER, INITIAL_COUNT, DIVIDE = LAPIC + 0x320, LAPIC + 0x380, LAPIC + 0x3E0
PERIODIC = 1 << 17
ENABLE_SSE = b"\x0f\x20\xe0\x0d\x00\x06\x00\x00\x0f\x22\xe0"  # mov rax, cr4; or eax, 0x600; mov cr4, rax
LEAVE = out_al(DONE) + b"\xeb\x00"
"""Out, and a jump that ends the block: a kick takes effect behind it."""

ROUNDS = 12_000_000


def move(old: Machine, new: Machine) -> None:
    """All of ``old`` into ``new``, by way of a file's bytes."""
    old.accelerator.freeze()
    data = encode([Section("accelerator", old.accelerator.state_version, old.accelerator.save())])
    for region in old.memory.regions:
        new.memory.write(region.gpa, old.memory.read(region.gpa, region.size))
    [section] = decode(data)
    new.accelerator.freeze()
    new.accelerator.load(section.version, section.state)
    new.accelerator.thaw()
    old.accelerator.thaw()


def calculation() -> bytes:
    """ROUNDS times: x87 adds 1, SSE adds 1, EDX goes through a generator; the three results at DATA."""
    body = (
        b"\xd8\xc1"  # fadd st0, st1
        + b"\x66\x0f\xd4\xc1"  # paddq xmm0, xmm1
        + b"\x69\xd2" + struct.pack("<I", 1664525)  # imul edx, edx, …
        + b"\x81\xc2" + struct.pack("<I", 1013904223)  # add edx, …
        + b"\xff\xce"  # dec esi
    )  # fmt: skip
    loop = body + b"\x0f\x85" + struct.pack("<i", -(len(body) + 6))  # jnz
    return (
        ENABLE_SSE
        + b"\xdb\xe3\xd9\xe8\xd9\xee"  # finit; fld1; fldz
        + b"\x66\x0f\xef\xc0" + mov_eax(1) + b"\x66\x0f\x6e\xc8"  # pxor xmm0, xmm0; movd xmm1, eax
        + b"\x31\xd2\xbe" + struct.pack("<I", ROUNDS)  # xor edx, edx; mov esi, ROUNDS
        + loop
        + b"\xdb\x1c\x25" + struct.pack("<I", DATA)  # fistp dword [DATA]
        + b"\x66\x0f\x7e\x04\x25" + struct.pack("<I", DATA + 4)  # movd [DATA + 4], xmm0
        + b"\x89\x14\x25" + struct.pack("<I", DATA + 8)  # mov [DATA + 8], edx
        + out_byte(0x80, 1) + done()
    )  # fmt: skip


def results(machine: Machine) -> tuple[int, ...]:
    return struct.unpack("<3I", machine.memory.read(DATA, 12))


def run_for(machine: Machine, seconds: float) -> None:
    with machine.running():
        time.sleep(seconds)  # any moment will do


def test_a_calculation_moved_at_random_moments_ends_with_the_right_answer(
    new_machine: Callable[..., Machine],
) -> None:
    straight = new_machine()
    straight.run(calculation())
    machine = new_machine()
    machine.start(calculation())
    moves = 0
    rng = random.Random(5)
    while not machine.bus.outs(0x80) and moves < 1000:
        run_for(machine, rng.uniform(0, 0.01))
        if machine.bus.outs(0x80):
            break
        following = new_machine()
        move(machine, following)
        machine.close()
        machine = following
        moves += 1
    assert results(machine) == results(straight)
    assert results(machine)[:2] == (ROUNDS, ROUNDS)
    assert moves >= 3


@pytest.fixture
def touched(new_machine: Callable[..., Machine]) -> Machine:
    """Two vCPUs, of which one has touched every kind of register and controller, and one waits for SIPI."""
    machine = new_machine(vcpus=2)
    machine.run(
        load_idt()
        + ENABLE_SSE
        + write_msr(0xC000_0082, 0x1234_5678)  # LSTAR
        + write_msr(0x3B, 0x1000)  # TSC_ADJUST
        + write_msr(0x48, 1)  # SPEC_CTRL
        + write_msr(0x200, 0x8000_0006)  # an MTRR
        + write_msr(0x277, 0x0007_0406_0007_0406)  # PAT
        + mov_eax(0x4000)
        + b"\x0f\x23\xc0"  # mov dr0, rax
        + mov_eax(0x401)
        + b"\x0f\x23\xf8"  # mov dr7, rax: a breakpoint that is never reached
        + b"\x0f\x22\xd0"  # mov cr2, rax
        + enable_lapic()
        + out_byte(0x20, 0x11) + out_byte(0x21, 0x30) + out_byte(0x21, 4) + out_byte(0x21, 1)
        + out_byte(0x43, 0x34) + out_byte(0x40, 0xA9) + out_byte(0x40, 0x04)
        + route_ioapic(9, 0x66)
        + store32(LVT_TIMER, 0x1_0055)
        + store32(INITIAL_COUNT, 0x7FFF_FFFF)
        + done(),
        {0x66: IRETQ},
    )  # fmt: skip
    return machine


def test_state_is_the_same_after_a_round_trip(touched: Machine, new_machine: Callable[..., Machine]) -> None:
    touched.accelerator.freeze()
    state = touched.accelerator.save()
    fresh = new_machine(vcpus=2)
    fresh.accelerator.freeze()
    blank = fresh.accelerator.save()
    fresh.accelerator.load(1, state)
    assert fresh.accelerator.save() == state
    assert blank["vcpus"][0] != state["vcpus"][0]
    assert {part for part in state["chip"] if blank["chip"][part] != state["chip"][part]} == {
        "lapics", "ioapic", "pic", "pit",
    }  # fmt: skip
    assert state["vcpus"][0]["msrs"]["engine"]["0x200"] == 0x8000_0006


def test_a_sleeping_guest_is_woken_by_its_restored_interrupt_controllers(
    new_machine: Callable[..., Machine],
) -> None:
    handler = {0x35: out_byte(0x81, 1) + store32(EOI, 0) + IRETQ}
    guest = load_idt() + mask_pics() + enable_lapic() + route_ioapic(18, 0x35) + out_byte(0x80, 1)
    old, new = new_machine(), new_machine()
    old.start(guest + HALT_FOREVER, handler)
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
    move(old, new)
    with new.running():
        new.accelerator.irq_line(18).set_level(True)
        new.bus.wait_for(lambda: new.bus.outs(0x81) == [1])
    assert new.bus.outs(0x80) == [], "it slept on; it did not start anew"


def test_a_timer_that_was_armed_fires_in_the_restored_machine(new_machine: Callable[..., Machine]) -> None:
    handler = {0x40: out_byte(0x81, 1) + store32(EOI, 0) + IRETQ}
    old, new = new_machine(), new_machine()
    guest = load_idt() + mask_pics() + enable_lapic() + store32(DIVIDE, 0xB) + store32(LVT_TIMER, 0x40)
    old.start(guest + store32(INITIAL_COUNT, 500_000_000) + out_byte(0x80, 1) + HALT_FOREVER, handler)
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
    assert old.bus.outs(0x81) == []
    move(old, new)
    with new.running():
        new.bus.wait_for(lambda: new.bus.outs(0x81) == [1])


def test_an_interrupt_that_was_pending_is_delivered_in_the_restored_machine(
    new_machine: Callable[..., Machine],
) -> None:
    handler = {0x35: out_byte(0x81, 1) + store32(EOI, 0) + IRETQ}
    old, new = new_machine(), new_machine()
    guest = load_idt() + mask_pics() + enable_lapic() + route_ioapic(18, 0x35) + out_byte(0x80, 1)
    wait = b"\xe4\x51\xa8\x01\x74\xfa"  # l: in al, 0x51; test al, 1; jz l
    old.bus.answers[0x51] = 0
    old.start(guest + wait + HALT_FOREVER, handler)
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
        old.accelerator.irq_line(18).set_level(True)
        old.accelerator.irq_line(18).set_level(False)
    move(old, new)
    with new.running():
        new.bus.wait_for(lambda: new.bus.outs(0x81) == [1])


def test_the_tsc_goes_on_from_where_it_stood(new_machine: Callable[..., Machine]) -> None:
    say_time = RDTSC + b"\x89\xd0" + say_eax() + RDTSC + say_eax() + LEAVE
    old, new = new_machine(), new_machine()
    old.start(write_msr(0x3B, 1 << 50) + say_time + say_time + done())
    old.thread.run()
    stood = old.accelerator.save()["tsc"]
    move(old, new)
    new.thread.run()
    high, low = new.bus.outs(VALUE)
    tsc = (high << 32 | low) - (1 << 50)
    assert stood <= tsc < stood + 60 * old.accelerator.save()["tsc_hz"]


def test_user_mode_goes_on_and_enters_the_kernel_that_was_set_up(
    new_machine: Callable[..., Machine],
) -> None:
    kernel = CODE + 0x600
    star = 0x20 << 48 | 0x10 << 32
    setup = write_msr(0xC000_0080, 0xD01) + write_msr(0xC000_0081, star) + write_msr(0xC000_0082, kernel)
    user = out_byte(0x80, 1) + b"\xe4\x51\xa8\x01\x74\xfa" + SYSCALL
    old, new = new_machine(), new_machine()
    old.bus.answers[0x51] = 0
    old.accelerator.start(boot_with_user(old.memory, setup + enter_user(), user))
    old.memory.write(kernel, MOV_EAX_CS + say_eax() + done())
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
    move(old, new)
    assert new.vcpu.registers()["cs"] & 3 == 3
    new.thread.run()
    assert new.bus.outs(VALUE) == [0x10]


def test_two_vcpus_go_on_together(new_machine: Callable[..., Machine]) -> None:
    ap = b"\x66\x31\xc0\x8e\xd8\xbb\x00\x06\xf0\xff\x07\xeb\xfb"  # real mode: lock inc word [0x600], for ever
    old, new = new_machine(vcpus=2), new_machine(vcpus=2)
    old.start(enable_lapic() + start_ap(1) + out_byte(0x80, 1) + SPIN)
    old.memory.write(AP_ENTRY, ap)
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
        while old.memory.read(0x600, 2) == b"\0\0":
            time.sleep(0.001)
    move(old, new)
    before = new.memory.read(0x600, 2)
    with new.running():
        deadline = time.monotonic() + 20
        while new.memory.read(0x600, 2) == before and time.monotonic() < deadline:
            time.sleep(0.001)
    assert new.memory.read(0x600, 2) != before


def test_a_cpu_that_waits_for_sipi_still_does(new_machine: Callable[..., Machine]) -> None:
    old, new = new_machine(vcpus=2), new_machine(vcpus=2)
    old.start(enable_lapic() + LEAVE + start_ap(1) + HALT_FOREVER)
    old.thread.run()
    move(old, new)
    new.memory.write(AP_ENTRY, b"\xb0\x07\xe6\x81\xe6\xf4\xf4")  # mov al, 7; out 0x81, al; out 0xf4, al; hlt
    new.thread.run()
    assert new.bus.outs(0x81) == [7]


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "library": (lambda state: state.update(library="0" * 40), "another build of libunicorn: 000"),
    "more vCPUs": (lambda state: state["vcpus"].append(state["vcpus"][0]), "saved with 2 vCPUs, not 1"),
    "faster TSC": (lambda state: state.update(tsc_hz=state["tsc_hz"] * 2), "saved where the TSC ran at"),
    "cut registers": (
        lambda state: state["vcpus"][0].update(registers=b"\0"),
        "vCPU 0: 1 bytes of registers",
    ),
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_what_does_not_fit_is_named(new_machine: Callable[..., Machine], wrong: str) -> None:
    change, problem = WRONG[wrong]
    machine = new_machine()
    machine.accelerator.freeze()
    state = machine.accelerator.save()
    change(state)
    with pytest.raises(AcceleratorError, match=problem):
        machine.accelerator.load(1, state)


@pytest.mark.parametrize("run_state", ["asleep", 7, None])
def test_a_run_state_that_does_not_exist_is_refused(
    new_machine: Callable[..., Machine], run_state: object
) -> None:
    machine = new_machine()
    machine.accelerator.freeze()
    state = machine.accelerator.save()
    state["vcpus"][0]["run_state"] = run_state
    with pytest.raises(ValueError, match="x not in tuple"):
        machine.accelerator.load(1, state)

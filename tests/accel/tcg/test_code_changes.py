"""Code that is written to runs as written: by the guest through any mapping and any vCPU, and by devices."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import (
    AP_ENTRY,
    CODE,
    DATA,
    PD_LOW,
    PDPT,
    Access,
    done,
    enable_lapic,
    load_idt,
    mov_eax,
    out_al,
    start_ap,
)
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import VALUE, call, returns, say_eax, store64

FUNCTION = CODE + 0x1000
"""On a page of its own."""

ALIAS = 1 << 30
"""Guest virtual address at which physical address 0 appears once more."""


def patch(value: int, at: int = FUNCTION) -> bytes:
    """Make the function return ``value``: its immediate operand is overwritten."""
    return store64(at + 1, value)


def say_result() -> bytes:
    return call(FUNCTION) + say_eax()


def map_alias(machine: Machine) -> None:
    machine.memory.write(PDPT + 8, struct.pack("<Q", PD_LOW | 3))


def test_a_guest_sees_its_own_patch(machine: Machine) -> None:
    code = say_result() + patch(2) + say_result() + patch(3) + say_result() + done()
    machine.start(code)
    machine.memory.write(FUNCTION, returns(1))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 2, 3]


def test_a_patch_through_another_mapping_is_seen(machine: Machine) -> None:
    code = patch(0, DATA + ALIAS) + say_result()  # the alias is in the TLB before the code is translated
    code += b"".join(patch(value, FUNCTION + ALIAS) + say_result() for value in (2, 3, 4)) + done()
    machine.start(code)
    map_alias(machine)
    machine.memory.write(FUNCTION, returns(1))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 2, 3, 4]


def test_a_patch_of_the_next_instruction_is_seen(machine: Machine) -> None:
    operand = CODE + len(store64(0, 0)) + 1
    code = store64(operand, 9) + mov_eax(1) + say_eax() + done()
    assert machine.run(code) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [9]


def test_a_device_that_writes_code_on_the_vcpu_thread_is_seen(machine: Machine) -> None:
    def write_by_device(value: int) -> None:
        machine.memory.write(FUNCTION + 1, struct.pack("<I", value))

    machine.bus.reactions[0x80] = write_by_device
    code = say_result() + mov_eax(8) + out_al(0x80) + b"\xeb\x00" + say_result() + done()
    machine.start(code)
    machine.memory.write(FUNCTION, returns(1))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 8]


def test_a_device_that_writes_code_from_another_thread_is_seen(machine: Machine) -> None:
    body = call(FUNCTION) + say_eax()
    machine.start(body + b"\xe9" + struct.pack("<i", -(len(body) + 5)))
    machine.memory.write(FUNCTION, returns(1))
    with machine.running():
        for value in range(1, 20):
            machine.memory.write(FUNCTION + 1, struct.pack("<I", value))
            said = [Access("out", VALUE, 4, value)]
            machine.bus.wait_for(lambda said=said: machine.bus.accesses[-1:] == said)  # type: ignore[misc]
    assert sorted(set(machine.bus.outs(VALUE))) == list(range(1, 20))


def test_a_device_that_writes_code_while_it_is_being_translated_is_seen(
    new_machine: Callable[..., Machine],
) -> None:
    """The first write comes as the guest first reads the code: at one of these machines, in the middle."""
    body = call(FUNCTION) + say_eax()
    for _ in range(60):
        machine = new_machine()
        machine.start(body + b"\xe9" + struct.pack("<i", -(len(body) + 5)))
        machine.memory.write(FUNCTION, returns(1))
        with machine.running():
            machine.memory.write(FUNCTION + 1, struct.pack("<I", 2))
            bus = machine.bus
            bus.wait_for(lambda bus=bus: bus.accesses[-1:] == [Access("out", VALUE, 4, 2)])  # type: ignore[misc]
        machine.close()


def real_mode_ap() -> bytes:
    """Calls the function at AP_ENTRY + 0x100 for ever, and counts what it returns at DATA: real mode, DS = 0.

    ``mov ax, 0; mov ds, ax; l: call f; mov [0x9000], ax; jmp l``
    """
    begin = b"\xb8\x00\x00\x8e\xd8\xbc\x00\x7c"  # and mov sp, 0x7c00
    call_f = b"\xe8" + struct.pack("<h", 0x100 - len(begin) - 3)
    store = b"\xa3" + struct.pack("<H", 0x9000)
    return begin + call_f + store + b"\xeb" + struct.pack("b", -(len(call_f) + len(store) + 2))


def wait_for_value(value: int) -> bytes:
    """``l: cmp word [0x9000], value; jne l`` with PAUSE."""
    compare = b"\xf3\x90" + b"\x66\x81\x3c\x25" + struct.pack("<IH", 0x9000, value)
    return compare + b"\x75" + struct.pack("b", -(len(compare) + 2))


def test_a_patch_is_seen_by_a_vcpu_that_has_run_the_code(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    function = AP_ENTRY + 0x100
    patches = b"".join(
        b"\x66\xc7\x04\x25" + struct.pack("<IH", function + 1, value) + wait_for_value(value)
        for value in (2, 3, 4)
    )
    code = (
        load_idt()
        + enable_lapic()
        + start_ap(1)
        + wait_for_value(1)
        + patches
        + mov_eax(1)
        + say_eax()
        + done()
    )
    machine.start(code)
    machine.memory.write(AP_ENTRY, real_mode_ap())
    machine.memory.write(function, b"\xb8\x01\x00\xc3")
    with machine.running() as ends:
        machine.bus.wait_for(lambda: machine.bus.outs(VALUE) == [1])
    assert ends == [RunEnd.KICKED]


@pytest.mark.parametrize("gpa", [CODE + 0x2000, 4 << 30])
def test_code_above_4_gib_is_tracked_like_any_other(new_machine: Callable[..., Machine], gpa: int) -> None:
    machine = new_machine(ram=(3 << 30) + (16 << 20))
    window = 1 << 30
    page = gpa & ~0x1FFFFF
    function = window + gpa - page
    store = store64(function + 1, 2)
    code = call(function) + say_eax() + store + call(function) + say_eax() + done()
    machine.start(code)
    table = 0x9000
    machine.memory.write(PDPT + 8, struct.pack("<Q", table | 3))
    machine.memory.write(table, struct.pack("<Q", page | 0x83))
    machine.memory.write(gpa, returns(1))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 2]

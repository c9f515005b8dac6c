"""A mapping that the guest has changed and flushed is the new one, for data, for code, and for jumps to it.

Global mappings outlive a write of CR3 (Intel SDM volume 3, 4.10.4.1): the software CPU keeps them, and
everything that it knows of them, so nothing else may be kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import DATA, IDT, IRETQ, PD_LOW, PDPT, PML4, done, load32, load_idt, mov_eax
from tests.accel.machine import Machine
from tests.accel.tcg.assembly import (
    MOV_RAX_CR2,
    RET,
    VALUE,
    boot_with_user,
    call,
    enter_user,
    load64,
    returns,
    say_eax,
    store64,
)

LOWER, UPPER = 1 << 30, 0xFFFF_8000_0000_0000
"""Where a page of 2 MiB is mapped: in the first gigabyte that nothing else uses, and in the kernel's half."""
FIRST, SECOND = 4 << 20, 6 << 20
"""What it is mapped to."""

DIRECTORY, UPPER_PDPT, OTHER_PML4, OTHER_PDPT, OTHER_DIRECTORY, OTHER_UPPER, SMALL = range(
    0x9000, 0x10000, 0x1000
)
PRESENT_WRITABLE, USER, LARGE, GLOBAL = 0x3, 0x4, 0x80, 0x100
SAID_BY_USER = 0x80

CHANGE_ROOT = b"\x0f\x22\xd8"  # mov cr3, rax
RELOAD_ROOT = b"\x0f\x20\xd8" + CHANGE_ROOT
READ_CR4, WRITE_CR4 = b"\x0f\x20\xe0", b"\x0f\x22\xe0"
GLOBALS_OFF = READ_CR4 + b"\x25\x7f\xff\xff\xff" + WRITE_CR4
GLOBALS_ON = READ_CR4 + b"\x0d\x80\x00\x00\x00" + WRITE_CR4

Access = Callable[[int], bytes]


def flush_page(address: int) -> bytes:
    """``mov rbx, address; invlpg [rbx]``"""
    return b"\x48\xbb" + struct.pack("<Q", address) + b"\x0f\x01\x3b"


def reload_root(_address: int) -> bytes:
    return RELOAD_ROOT


def toggle_globals(_address: int) -> bytes:
    return GLOBALS_OFF + GLOBALS_ON


def change_root(table: int) -> bytes:
    """``mov eax, table; mov cr3, rax``"""
    return b"\xb8" + struct.pack("<I", table) + CHANGE_ROOT


def run_it(address: int) -> bytes:
    return call(address) + say_eax()


def read_it(address: int) -> bytes:
    """Its bytes 1 to 4, where :func:`returns` has its value."""
    return load64(address + 1) + say_eax()


def prepare(machine: Machine, bits: int = 0) -> None:
    """Two pages with a function each, and DIRECTORY that maps the first; both windows lead there."""
    memory = machine.memory
    memory.write(FIRST, returns(1))
    memory.write(SECOND, returns(2))
    memory.write(DIRECTORY, struct.pack("<Q", FIRST | LARGE | PRESENT_WRITABLE | bits))
    memory.write(PDPT + 8, struct.pack("<Q", DIRECTORY | PRESENT_WRITABLE | USER))
    memory.write(PML4 + 8 * 256, struct.pack("<Q", UPPER_PDPT | PRESENT_WRITABLE))
    memory.write(UPPER_PDPT, struct.pack("<Q", DIRECTORY | PRESENT_WRITABLE))


def map_second(bits: int = 0) -> bytes:
    return store64(DIRECTORY, SECOND | LARGE | PRESENT_WRITABLE | bits)


@pytest.mark.parametrize("access", [run_it, read_it])
@pytest.mark.parametrize("window", [LOWER, UPPER])
@pytest.mark.parametrize(
    ("bits", "begin", "flush"),
    [
        (0, b"", flush_page),
        (0, b"", reload_root),
        (0, GLOBALS_ON, flush_page),
        (0, GLOBALS_ON, reload_root),
        (GLOBAL, b"", reload_root),
        (GLOBAL, GLOBALS_ON, flush_page),
        (GLOBAL, GLOBALS_ON, toggle_globals),
    ],
)
def test_a_change_is_seen_after_the_flush(
    machine: Machine, bits: int, begin: bytes, flush: Access, window: int, access: Access
) -> None:
    code = begin + 3 * access(window) + map_second(bits) + flush(window) + 2 * access(window) + done()
    machine.start(code)
    prepare(machine, bits)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("access", [run_it, read_it])
def test_a_global_mapping_outlives_a_write_of_cr3(machine: Machine, access: Access) -> None:
    code = GLOBALS_ON + access(UPPER) + map_second(GLOBAL) + RELOAD_ROOT + access(UPPER) + done()
    machine.start(code)
    prepare(machine, GLOBAL)
    # In small pages; otherwise the engine flushes all that lies between large ones.
    machine.memory.write(SMALL, struct.pack("<512Q", *(page << 12 | PRESENT_WRITABLE for page in range(512))))
    machine.memory.write(PD_LOW, struct.pack("<Q", SMALL | PRESENT_WRITABLE))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1]


@pytest.mark.parametrize("access", [run_it, read_it])
@pytest.mark.parametrize("window", [LOWER, UPPER])
@pytest.mark.parametrize("pages", [0, 100])
def test_an_address_leads_to_where_the_current_root_says(
    machine: Machine, window: int, access: Access, pages: int
) -> None:
    """The kernel reads ``pages`` others between two switches: more than the software CPU lists."""
    reads = b"".join(load32(DATA + (number << 12)) for number in range(pages))
    code = GLOBALS_ON + 3 * (
        change_root(PML4) + reads + access(window) + change_root(OTHER_PML4) + reads + access(window)
    )
    machine.start(code + done())
    prepare(machine)
    memory = machine.memory
    low, devices = memory.read(PDPT, 8), memory.read(PDPT + 8 * 3, 8)
    memory.write(OTHER_PML4, struct.pack("<Q", OTHER_PDPT | PRESENT_WRITABLE))
    memory.write(OTHER_PML4 + 8 * 256, struct.pack("<Q", OTHER_UPPER | PRESENT_WRITABLE))
    memory.write(OTHER_UPPER, struct.pack("<Q", OTHER_DIRECTORY | PRESENT_WRITABLE))
    memory.write(OTHER_PDPT, low + struct.pack("<2Q", OTHER_DIRECTORY | PRESENT_WRITABLE, 0) + devices)
    memory.write(OTHER_DIRECTORY, struct.pack("<Q", SECOND | LARGE | PRESENT_WRITABLE))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("access", [run_it, read_it])
def test_user_mode_sees_what_the_kernel_changed(machine: Machine, access: Access) -> None:
    change = map_second(USER) + RELOAD_ROOT + IRETQ
    system_call = b"\xcd" + bytes([SAID_BY_USER])
    user = 2 * access(LOWER) + system_call + 2 * access(LOWER) + done()
    machine.accelerator.start(
        boot_with_user(machine.memory, load_idt() + GLOBALS_ON + enter_user(), user, {SAID_BY_USER: change})
    )
    prepare(machine, USER)
    gate = IDT + 16 * SAID_BY_USER + 5
    machine.memory.write(gate, bytes([machine.memory.read(gate, 1)[0] | 0x60]))  # user mode may call it
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 2, 2]


# -- user mode in the upper half ---------------------------------------------------------------------------

SWITCH, OTHER_SWITCH, PAGE_FAULT = 0x81, 0x82, 14
PRESENT_USER = PRESENT_WRITABLE | USER


def system_call(vector: int) -> bytes:
    return b"\xcd" + bytes([vector])


def start_user(machine: Machine, begin: bytes, user: bytes, handlers: dict[int, bytes]) -> None:
    """A guest whose user mode may call the handlers; UPPER is FIRST of PML4 and SECOND of OTHER_PML4."""
    memory = machine.memory
    entry = boot_with_user(memory, load_idt() + begin + enter_user(), user, handlers)
    machine.accelerator.start(entry)
    for vector in handlers:
        gate = IDT + 16 * vector + 5
        memory.write(gate, bytes([memory.read(gate, 1)[0] | 0x60]))
    memory.write(FIRST, returns(1))
    memory.write(SECOND, returns(2))
    memory.write(OTHER_PML4, memory.read(PML4, 8))
    for root, pdpt, directory, page in (
        (PML4, UPPER_PDPT, DIRECTORY, FIRST),
        (OTHER_PML4, OTHER_UPPER, OTHER_DIRECTORY, SECOND),
    ):
        memory.write(root + 8 * 256, struct.pack("<Q", pdpt | PRESENT_USER))
        memory.write(pdpt, struct.pack("<Q", directory | PRESENT_USER))
        memory.write(directory, struct.pack("<Q", page | LARGE | PRESENT_USER))


@pytest.mark.parametrize("access", [run_it, read_it])
@pytest.mark.parametrize("begin", [b"", GLOBALS_ON])
def test_user_mode_sees_the_upper_half_of_its_own_root(
    machine: Machine, begin: bytes, access: Access
) -> None:
    handlers = {SWITCH: change_root(PML4) + IRETQ, OTHER_SWITCH: change_root(OTHER_PML4) + IRETQ}
    one_round = 3 * access(UPPER) + system_call(OTHER_SWITCH) + 3 * access(UPPER) + system_call(SWITCH)
    start_user(machine, begin, 2 * one_round + done(), handlers)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == 2 * [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("access", [run_it, read_it])
def test_user_mode_faults_where_its_own_root_maps_nothing(machine: Machine, access: Access) -> None:
    handlers = {OTHER_SWITCH: change_root(OTHER_PML4) + IRETQ, PAGE_FAULT: MOV_RAX_CR2 + say_eax() + done()}
    user = 3 * access(UPPER) + system_call(OTHER_SWITCH) + access(UPPER) + done()
    start_user(machine, GLOBALS_ON, user, handlers)
    machine.memory.write(OTHER_DIRECTORY, bytes(8))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 1, (UPPER & 0xFFFF_FFFF) + (access is read_it)]


# -- other ways that a mapping may change -------------------------------------------------------------------


@pytest.mark.parametrize("access", [run_it, read_it])
@pytest.mark.parametrize("window", [LOWER, UPPER])
def test_a_page_that_is_no_longer_global_is_flushed_by_a_write_of_cr3(
    machine: Machine, window: int, access: Access
) -> None:
    local_now = store64(DIRECTORY, FIRST | LARGE | PRESENT_WRITABLE) + flush_page(window)
    code = GLOBALS_ON + 2 * access(window) + local_now + 2 * access(window)
    machine.start(code + map_second() + RELOAD_ROOT + 2 * access(window) + done())
    prepare(machine, GLOBAL)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("access", [run_it, read_it])
@pytest.mark.parametrize("window", [LOWER, UPPER])
@pytest.mark.parametrize("bits", [0, GLOBAL])
def test_flushing_any_address_of_a_large_page_flushes_all_of_it(
    machine: Machine, bits: int, window: int, access: Access
) -> None:
    """Intel SDM volume 3, 4.10.4.1: INVLPG with an address in a 2-MByte page."""
    inside = 0x5000
    code = GLOBALS_ON + 3 * access(window + inside) + map_second(bits) + flush_page(window)
    machine.start(code + 2 * access(window + inside) + done())
    prepare(machine, bits)
    machine.memory.write(FIRST + inside, returns(1))
    machine.memory.write(SECOND + inside, returns(2))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, 1, 2, 2]


def test_code_that_the_kernel_has_run_is_not_the_kernels_when_user_mode_runs_it(machine: Machine) -> None:
    general_protection = {13: mov_eax(13) + say_eax() + done()}
    start_user(machine, 3 * call(UPPER), call(UPPER) + done(), general_protection)
    machine.memory.write(FIRST, MOV_RAX_CR2 + RET)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [13]


@pytest.mark.parametrize("window", [LOWER, UPPER])
def test_smep_ends_what_the_kernel_ran_of_the_users_pages(machine: Machine, window: int) -> None:
    smep_on = READ_CR4 + b"\x0d\x00\x00\x10\x00" + WRITE_CR4
    code = load_idt() + GLOBALS_ON + 2 * run_it(window) + smep_on + run_it(window) + done()
    machine.start(code, {PAGE_FAULT: MOV_RAX_CR2 + say_eax() + done()})
    prepare(machine, USER | GLOBAL)
    for entry in (PML4 + 8 * 256, UPPER_PDPT):
        machine.memory.write(entry, bytes([machine.memory.read(entry, 1)[0] | USER]))
    machine.memory.write(PML4, bytes([machine.memory.read(PML4, 1)[0] | USER]))
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [1, 1, window & 0xFFFF_FFFF]

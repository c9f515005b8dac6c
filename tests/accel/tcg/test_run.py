"""Runs begin, end and are interrupted as the protocol says."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

import pytest

from stratovirt.accel.protocol import RunEnd
from stratovirt.errors import AcceleratorError
from tests.accel.guests import (
    CLI,
    CODE,
    DATA,
    HALT_FOREVER,
    HLT,
    MMIO,
    SPIN,
    done,
    forever,
    in_al,
    increment32,
    load32,
    mov_eax,
    out_al,
    store32,
)
from tests.accel.machine import DEADLINE, Machine
from tests.accel.tcg.assembly import VALUE, call, load64, mov_ecx, say_eax

ROUNDS = 300


def test_a_kick_before_the_run_ends_it_at_once(machine: Machine) -> None:
    machine.start(SPIN)
    machine.kick()
    assert machine.thread.run() is RunEnd.KICKED


def test_a_kick_is_used_up(machine: Machine) -> None:
    machine.start(done())
    machine.kick()
    machine.kick()
    assert machine.thread.run() is RunEnd.KICKED
    assert not machine.bus.accesses
    assert machine.thread.run() is RunEnd.KICKED  # by the guest's write to DONE
    assert machine.vcpu.registers()["rip"] != CODE


def kick_again_and_again(machine: Machine, after_each: Callable[[], object]) -> list[RunEnd]:
    """ROUNDS runs in a thread of their own, each kicked from this one at some moment; how each ended."""
    rounds = threading.Semaphore(0)
    ends: list[RunEnd] = []

    def run() -> None:
        for _ in range(ROUNDS):
            ends.append(machine.thread.run())
            after_each()
            rounds.release()

    runner = threading.Thread(target=run, name="vcpu-0")
    runner.start()
    for _ in range(ROUNDS):
        machine.kick()
        assert rounds.acquire(timeout=DEADLINE), "a kick was lost"
    runner.join(DEADLINE)
    return ends


@pytest.mark.parametrize(
    "code", [SPIN, HALT_FOREVER, forever(in_al(0x51)), forever(load32(MMIO)), forever(b"\xf3\x90")]
)
def test_no_kick_from_another_thread_is_lost(machine: Machine, code: bytes) -> None:
    machine.start(code)
    assert kick_again_and_again(machine, after_each=lambda: None) == [RunEnd.KICKED] * ROUNDS


def test_asynchronous_kicks_never_repeat_an_instruction(machine: Machine) -> None:
    loop = increment32(DATA) + b"\xff\xc1"  # lock inc dword [DATA]; inc ecx
    machine.start(mov_ecx(0) + forever(loop))
    counts: list[tuple[int, int]] = []

    def compare() -> None:
        (in_memory,) = struct.unpack("<I", machine.memory.read(DATA, 4))
        counts.append((in_memory, machine.vcpu.registers()["rcx"]))

    kick_again_and_again(machine, compare)
    assert counts[-1][0] > ROUNDS
    assert [in_memory - in_register for in_memory, in_register in counts] == [0] * ROUNDS


def test_halting_with_interrupts_off_ends_the_run(machine: Machine) -> None:
    assert machine.run(CLI + HLT) is RunEnd.HALTED_FOREVER
    assert machine.vcpu.halted


class BusFailure(Exception):
    pass


def fail(_value: int) -> None:
    raise BusFailure


@pytest.mark.parametrize("access", [out_al(0x51), store32(MMIO, 1)])
def test_an_exception_of_the_bus_comes_out_of_run_and_the_guest_can_go_on(
    machine: Machine, access: bytes
) -> None:
    machine.bus.reactions = {0x51: fail, MMIO: fail}
    with pytest.raises(BusFailure):
        machine.run(access + b"\xeb\x00" + mov_eax(3) + say_eax() + done())
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [3]


def test_a_failure_does_not_use_up_a_kick(machine: Machine) -> None:
    def kick_and_fail(_value: int) -> None:
        machine.kick()
        raise BusFailure

    machine.bus.reactions[0x51] = kick_and_fail
    with pytest.raises(BusFailure):
        machine.run(out_al(0x51) + SPIN)
    assert machine.thread.run() is RunEnd.KICKED


def test_running_code_that_is_not_there_is_an_error_with_registers(machine: Machine) -> None:
    with pytest.raises(AcceleratorError, match="vCPU 0") as caught:
        machine.run(call(MMIO))
    assert caught.value.registers["rip"] == MMIO


def test_space_without_ram_reads_all_ones_and_drops_writes(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine()
    above = 32 << 20
    assert machine.run(store32(above, 5) + load64(above) + say_eax() + done()) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0xFFFF_FFFF]
    assert [access.kind for access in machine.bus.accesses] == ["write", "read", "out"]


def test_one_process_runs_two_machines_at_once(new_machine: Callable[..., Machine]) -> None:
    machines = [new_machine(), new_machine()]
    for number, machine in enumerate(machines):
        machine.start(mov_eax(number) + say_eax() + HALT_FOREVER)
    with machines[0].running(), machines[1].running():
        for number, machine in enumerate(machines):
            machine.bus.wait_for(lambda machine=machine, number=number: machine.bus.outs(VALUE) == [number])  # type: ignore[misc]
    assert machines[0].memory is not machines[1].memory

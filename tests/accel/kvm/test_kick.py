"""A kick brings run() back: always, once, and whenever it comes."""

from __future__ import annotations

import queue
import signal
import threading
import time
from functools import partial

import pytest

from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.protocol import RunEnd
from tests.accel.guests import HALT_FOREVER, MMIO, SPIN, forever, out_byte, store32
from tests.accel.kvm.conftest import DEADLINE, Machine

KICKS = 200  # of each kind of guest: 600 in all, the count at which the mechanism was measured

GUESTS = {
    "spins in the guest": SPIN,
    "sleeps in the kernel": HALT_FOREVER,
    "exits all the time": forever(store32(MMIO, 1) + out_byte(0x80, 1)),
}


def has_come_to(machine: Machine, accesses: int) -> bool:
    return len(machine.bus.accesses) >= accesses


def halted(machine: Machine) -> bool:
    """Asked anew each time; the type checker would hold a property for constant."""
    return machine.vcpu.halted


@pytest.mark.parametrize("code", GUESTS.values(), ids=GUESTS.keys())
def test_no_kick_is_lost(machine: Machine, code: bytes) -> None:
    """Each ends one run, whether it meets the vCPU in the guest, in the kernel or on its way."""
    machine.start(code)
    ends: queue.SimpleQueue[RunEnd] = queue.SimpleQueue()

    def run_again_and_again() -> None:
        for _ in range(KICKS):
            ends.put(machine.thread.run())

    runner = threading.Thread(target=run_again_and_again)
    runner.start()
    for _ in range(KICKS):
        machine.thread.kick()
        assert ends.get(timeout=DEADLINE) is RunEnd.KICKED
    runner.join(DEADLINE)
    assert not runner.is_alive()


def test_kick_before_run_is_remembered_once(machine: Machine) -> None:
    machine.start(out_byte(0x80, 1) + SPIN)
    machine.thread.kick()
    machine.thread.kick()
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.bus.accesses == [], "it came back before the guest ran"
    with machine.running() as ends:
        machine.bus.wait_for(lambda: machine.bus.outs(0x80) == [1])
        assert ends == [], "the second kick was used up together with the first"
    assert ends == [RunEnd.KICKED]


def test_kick_from_the_bus_ends_the_run(machine: Machine) -> None:
    machine.bus.reactions[0x80] = lambda _value: machine.thread.kick()
    assert machine.run(out_byte(0x80, 1) + out_byte(0x81, 2) + SPIN) is RunEnd.KICKED
    assert machine.bus.outs(0x81) == []


def test_kick_after_the_thread_has_ended_harms_nobody(machine: Machine) -> None:
    machine.start(SPIN)
    with machine.running():
        pass
    machine.thread.kick()
    assert machine.thread.run() is RunEnd.KICKED


def test_other_signals_do_not_end_the_run(machine: Machine) -> None:
    machine.start(forever(out_byte(0x80, 1)))
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with machine.running() as ends:
            vcpu = next(t for t in threading.enumerate() if t.name == "vcpu-0")
            assert vcpu.ident is not None
            for _ in range(20):
                goal = len(machine.bus.accesses) + 1
                signal.pthread_kill(vcpu.ident, signal.SIGUSR1)
                machine.bus.wait_for(partial(has_come_to, machine, goal))
            assert ends == []
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert ends == [RunEnd.KICKED]


def test_kick_arrives_where_the_host_has_blocked_signals(machine: Machine) -> None:
    machine.start(out_byte(0x80, 1) + SPIN)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with machine.running() as ends:  # threads inherit the mask
            machine.bus.wait_for(lambda: machine.bus.outs(0x80) == [1])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    assert ends == [RunEnd.KICKED]


def test_halted_tells_a_sleeping_guest_from_a_running_one(machine: Machine) -> None:
    with KvmSystem() as system:
        if not system.extension("KVM_CAP_BINARY_STATS_FD"):
            pytest.skip("this kernel does not say (Linux 5.16)")
    machine.start(out_byte(0x80, 1) + HALT_FOREVER)
    assert not halted(machine)
    with machine.running():
        deadline = time.monotonic() + DEADLINE
        while not halted(machine):  # there is no event for falling asleep
            assert time.monotonic() < deadline
        assert machine.bus.outs(0x80) == [1]
    assert not halted(machine)

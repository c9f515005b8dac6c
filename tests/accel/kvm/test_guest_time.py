"""Frozen time stands still: the paravirtual clock, the TSC, an armed deadline."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from stratovirt.accel.choose import EMULATING_MODULE
from stratovirt.accel.kvm import msrs
from stratovirt.accel.kvm.guest_time import tsc_offset
from tests.accel.guests import (
    EOI,
    HALT_FOREVER,
    IRETQ,
    LAPIC,
    enable_lapic,
    load_idt,
    mask_pics,
    mov_eax,
    out_byte,
    store32,
)
from tests.accel.kvm.conftest import Machine

PAUSE = 0.1  # seconds that must not pass for the guest
LVT_TIMER, TSC_DEADLINE_MODE = LAPIC + 0x320, 2 << 17
READY, EXPIRED, VECTOR = 0x80, 0x81, 0x51


def tsc(machine: Machine) -> int:
    return msrs.read(machine.vcpu.fd, msrs.TSC)


def tsc_per_second(machine: Machine) -> float:
    """Of the host clock; rough."""
    begin, first = time.perf_counter(), tsc(machine)
    time.sleep(0.02)
    return (tsc(machine) - first) / (time.perf_counter() - begin)


def freeze_for_a_while(machine: Machine) -> None:
    """The pause is what is measured, not what is waited for."""
    machine.accelerator.freeze()
    time.sleep(PAUSE)
    machine.accelerator.thaw()


def test_paravirtual_clock_stands_still(machine: Machine) -> None:
    before = machine.accelerator.vm.clock()
    begin = time.monotonic_ns()
    freeze_for_a_while(machine)
    passed = time.monotonic_ns() - begin
    assert before <= machine.accelerator.vm.clock() < before + passed - PAUSE * 1e9 / 2


def test_tsc_stands_still(machine: Machine) -> None:
    if tsc_offset(machine.vcpu.fd) is None:
        pytest.skip("this kernel has no KVM_VCPU_TSC_OFFSET (Linux 5.16)")
    if EMULATING_MODULE.exists():
        pytest.skip("kvm_pvm's guests see the host's TSC, whatever the offset")
    frequency = tsc_per_second(machine)
    begin, before = time.perf_counter(), tsc(machine)
    freeze_for_a_while(machine)
    after, passed = tsc(machine), time.perf_counter() - begin
    assert before <= after < before + frequency * (passed - PAUSE / 2)


def test_vcpus_tscs_stay_together(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    fds = [vcpu.fd for vcpu in machine.accelerator.vcpus]
    before = [tsc_offset(fd) for fd in fds]
    freeze_for_a_while(machine)
    after = [tsc_offset(fd) for fd in fds]
    if before[0] is not None and before[1] is not None and after[0] is not None and after[1] is not None:
        assert after[0] - after[1] == before[0] - before[1]
    else:
        assert after == before


def test_freezing_twice_is_an_error(machine: Machine) -> None:
    machine.accelerator.freeze()
    with pytest.raises(RuntimeError, match="frozen already"):
        machine.accelerator.freeze()
    machine.accelerator.thaw()
    with pytest.raises(RuntimeError, match="not frozen"):
        machine.accelerator.thaw()


def test_state_saved_while_frozen_shows_the_frozen_time(machine: Machine) -> None:
    machine.accelerator.freeze()
    before = machine.accelerator.vm.clock()
    time.sleep(PAUSE)
    saved = int.from_bytes(machine.accelerator.save_vm()["clock"], "little")
    machine.accelerator.thaw()
    assert saved < before + PAUSE * 1e9 / 2


def test_reset_while_frozen_is_not_undone_by_thaw(machine: Machine) -> None:
    """An armed deadline of the old guest must not reach the new one."""
    machine.run(arm_deadline(ticks_ahead=1 << 40) + out_byte(READY, 1) + out_byte(0xF4, 0) + HALT_FOREVER)
    assert msrs.read(machine.vcpu.fd, msrs.TSC_DEADLINE) != 0
    machine.accelerator.freeze()
    machine.accelerator.reset()
    machine.accelerator.thaw()
    assert msrs.read(machine.vcpu.fd, msrs.TSC_DEADLINE) == 0


def test_armed_deadline_is_met_after_thaw(machine: Machine) -> None:
    handler = {VECTOR: out_byte(EXPIRED, 1) + store32(EOI, 0) + IRETQ}
    ahead = int(tsc_per_second(machine) * 2 * PAUSE)
    machine.start(load_idt() + mask_pics() + arm_deadline(ahead) + out_byte(READY, 1) + HALT_FOREVER, handler)
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(READY) == [1])
    deadline = msrs.read(machine.vcpu.fd, msrs.TSC_DEADLINE)
    freeze_for_a_while(machine)
    assert msrs.read(machine.vcpu.fd, msrs.TSC_DEADLINE) == deadline
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(EXPIRED) == [1])
    assert tsc(machine) >= deadline


def arm_deadline(ticks_ahead: int) -> bytes:
    """The local APIC's timer in TSC-deadline mode (SDM volume 3, 11.5.4.1), ``ticks_ahead`` from now."""
    distance = b"\x48\xbb" + struct.pack("<Q", ticks_ahead)  # mov rbx, ticks_ahead
    now_plus = b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xc2\x48\x01\xda"  # rdtsc; rdx = rdx:rax + rbx
    split = b"\x48\x89\xd0\x48\xc1\xea\x20"  # mov rax, rdx; shr rdx, 32
    write = b"\xb9" + struct.pack("<I", msrs.TSC_DEADLINE) + b"\x0f\x30"  # mov ecx, msr; wrmsr
    mode = enable_lapic() + store32(LVT_TIMER, TSC_DEADLINE_MODE | VECTOR)
    return mode + distance + now_plus + split + write + mov_eax(0)

"""Time stands still while frozen; CPUID and MSRs tell one consistent story."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from stratovirt.accel.features import Features
from stratovirt.accel.protocol import RunEnd
from stratovirt.accel.tcg import library
from stratovirt.accel.tcg.accelerator import MAX_VCPUS, TcgAccelerator
from stratovirt.accel.tcg.cpuid import tsc_ratio
from stratovirt.accel.tcg.irqchip import LAPIC_TIMER_HZ
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.memory import GuestMemory
from tests.accel.guests import (
    AP_ENTRY,
    HALT_FOREVER,
    SPIN,
    RecordingBus,
    done,
    enable_lapic,
    forever,
    load_idt,
    mov_eax,
    out_al,
    start_ap,
)
from tests.accel.machine import RAM, Machine
from tests.accel.tcg.assembly import (
    CPUID,
    MOV_EAX_EBX,
    MOV_EAX_ECX,
    MOV_EAX_EDX,
    RDTSC,
    VALUE,
    load_stack,
    mov_ecx,
    read_msr,
    say_eax,
    write_msr,
)

TSC, APIC_BASE, TSC_ADJUST, ARCH_CAPABILITIES, UNKNOWN = 0x10, 0x1B, 0x3B, 0x10A, 0x1234
SAY_EDX_EAX = say_eax() + MOV_EAX_EDX + say_eax()
SAY_TSC = RDTSC + SAY_EDX_EAX


def wide(words: list[int]) -> list[int]:
    """Pairs of 32-bit words, low first, as 64-bit values."""
    return [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]


def test_the_tsc_runs_at_the_frequency_of_leaf_15(machine: Machine) -> None:
    machine.start(forever(SAY_TSC + out_al(0xF4)))
    samples = []
    for _ in range(2):
        machine.thread.run()
        samples.append(time.monotonic())
        end = samples[-1] + 0.1
        while len(samples) == 1 and time.monotonic() < end:
            pass
    values = wide(machine.bus.outs(VALUE)[-4:])
    machine.run(
        mov_eax(0x15)
        + mov_ecx(0)
        + CPUID
        + say_eax()
        + MOV_EAX_EBX
        + say_eax()
        + MOV_EAX_ECX
        + say_eax()
        + done()
    )
    denominator, numerator, crystal = machine.bus.outs(VALUE)[-3:]
    assert crystal * numerator / denominator == pytest.approx(library.load(), rel=1e-5)
    assert len(values) == 2
    assert values[1] > values[0]


def test_the_guest_sees_nothing_of_frozen_time(machine: Machine) -> None:
    machine.start(forever(SAY_TSC + out_al(0xF4)))
    assert machine.thread.run() is RunEnd.KICKED
    machine.accelerator.freeze()
    frozen_until = time.monotonic() + 0.3
    while time.monotonic() < frozen_until:
        pass
    machine.accelerator.thaw()
    assert machine.thread.run() is RunEnd.KICKED
    before, after = wide(machine.bus.outs(VALUE)[:4])
    assert 0 < after - before < 0.3 * library.load()


def test_freezing_twice_is_an_error(machine: Machine) -> None:
    machine.accelerator.freeze()
    with pytest.raises(RuntimeError):
        machine.accelerator.freeze()
    machine.accelerator.thaw()
    with pytest.raises(RuntimeError):
        machine.accelerator.thaw()


def test_tsc_adjust_moves_the_tsc_and_a_written_tsc_is_an_adjustment(machine: Machine) -> None:
    jump = 1 << 50
    code = write_msr(TSC_ADJUST, jump) + SAY_TSC + read_msr(TSC) + SAY_EDX_EAX
    code += write_msr(TSC, 0) + SAY_TSC + read_msr(TSC_ADJUST) + SAY_EDX_EAX + done()
    assert machine.run(code) is RunEnd.KICKED
    rdtsc, msr, restarted, adjust = wide(machine.bus.outs(VALUE))
    assert jump < rdtsc < msr < jump + library.load()
    assert 0 < restarted < library.load()
    assert adjust >> 63  # below zero: the guest's TSC has been set back


def test_the_apic_is_where_it_is_and_vcpu_0_is_the_bootstrap_processor(machine: Machine) -> None:
    assert machine.run(read_msr(APIC_BASE) + SAY_EDX_EAX + done()) is RunEnd.KICKED
    assert wide(machine.bus.outs(VALUE)) == [0xFEE0_0900]


@pytest.mark.parametrize("access", [read_msr(UNKNOWN), write_msr(UNKNOWN, 1)])
def test_an_unknown_msr_is_a_general_protection(machine: Machine, access: bytes) -> None:
    handler = load_stack(0) + say_eax() + done()
    assert machine.run(load_idt() + access, {13: handler}) is RunEnd.KICKED
    assert machine.bus.outs(VALUE) == [0]


def test_a_kernel_learns_that_nothing_is_speculated(machine: Machine) -> None:
    assert machine.run(read_msr(ARCH_CAPABILITIES) + SAY_EDX_EAX + done()) is RunEnd.KICKED
    (capabilities,) = wide(machine.bus.outs(VALUE))
    assert capabilities & 1  # RDCL_NO


def say_cpuid(leaf: int, subleaf: int = 0) -> bytes:
    """EDX, EAX, EBX, ECX in this order, for EAX is used to say it."""
    return (
        mov_eax(leaf)
        + mov_ecx(subleaf)
        + CPUID
        + MOV_EAX_EDX
        + say_eax()
        + MOV_EAX_EBX
        + say_eax()
        + MOV_EAX_ECX
        + say_eax()
    )


def test_cpuid_lacks_the_features_that_were_removed_and_no_other(new_machine: Callable[..., Machine]) -> None:
    says = say_cpuid(1) + say_cpuid(7) + say_cpuid(0x8000_0001)
    said = []
    names = ("tsc-deadline", "smep", "nx")
    for features in (Features(required=names), Features(removed=names)):
        machine = new_machine(features=features)
        assert machine.run(says + done()) is RunEnd.KICKED
        said.append(machine.bus.outs(VALUE))
    differ = [(place, a ^ b) for place, (a, b) in enumerate(zip(*said, strict=True)) if a != b]
    # EDX, EBX and ECX of each leaf
    assert differ == [(2, 1 << 24), (4, 1 << 7), (6, 1 << 20)]


def test_a_feature_that_the_software_cpu_lacks_cannot_be_had(new_machine: Callable[..., Machine]) -> None:
    with pytest.raises(AcceleratorUnavailable, match=r"^accel tcg: the software CPU has no avx512f$"):
        new_machine(features=Features(required=("avx512f",)))


@pytest.mark.parametrize("vcpus", [1, 3])
def test_cpuid_knows_the_number_of_vcpus(new_machine: Callable[..., Machine], vcpus: int) -> None:
    machine = new_machine(vcpus=vcpus)
    assert machine.run(say_cpuid(1) + say_cpuid(0xB, 0) + say_cpuid(0xB, 1) + done()) is RunEnd.KICKED
    one, threads, cores = (machine.bus.outs(VALUE)[i : i + 3] for i in (0, 3, 6))
    assert one[1] >> 16 == vcpus  # APIC id 0, and how many there are
    assert bool(one[0] >> 28 & 1) == (vcpus > 1)  # HTT
    assert threads == [0, 1, 0x100]
    assert cores == [0, vcpus, 0x201]


@pytest.mark.parametrize(
    ("topology", "threads", "die", "socket"),
    [
        (Topology(sockets=2, cores=3), [0, 1, 0x100], None, [0, 3, 0x201]),
        (Topology(sockets=2, threads=2), [0, 2, 0x100], None, [0, 2, 0x201]),
        (Topology(dies=2, cores=2, threads=2), [0, 2, 0x100], [0, 4, 0x201], [0, 8, 0x502]),
    ],
)
def test_cpuid_tells_the_levels_of_the_topology(
    new_machine: Callable[..., Machine],
    topology: Topology,
    threads: list[int],
    die: list[int] | None,
    socket: list[int],
) -> None:
    """EDX, EBX and ECX; leaf 0x1F where there are dies, else 0xB."""
    machine = new_machine(vcpus=1, topology=topology)
    leaf = 0x1F if die else 0xB
    says = b"".join(say_cpuid(leaf, level) for level in range(4)) + say_cpuid(0xB, 1)
    assert machine.run(says + done()) is RunEnd.KICKED
    said = [machine.bus.outs(VALUE)[place : place + 3] for place in range(0, 15, 3)]
    expected = [threads, die, socket] if die else [threads, socket]
    assert said[: len(expected)] == expected
    assert said[len(expected)] == [0, 0, len(expected)], "no more levels"
    assert said[4] == [0, topology.socket_threads, 0x201]


def test_cpuid_knows_each_vcpu_by_its_apic_id(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=4, topology=Topology(sockets=2, cores=3))
    machine.start(load_idt() + enable_lapic() + start_ap(4) + HALT_FOREVER)
    cpuid_1 = (
        b"\x66\xb8\x01\x00\x00\x00" + CPUID + b"\x66\x89\xd8"
    )  # real mode: mov eax, 1; cpuid; mov eax, ebx
    machine.memory.write(AP_ENTRY, cpuid_1 + b"\x66\xe7" + bytes([VALUE]) + SPIN)
    with machine.running():
        machine.bus.wait_for(lambda: len(machine.bus.outs(VALUE)) == 1)
    assert machine.bus.outs(VALUE)[0] >> 24 == 4, "the first of the second socket"


def test_the_number_of_vcpus_has_a_limit(new_machine: Callable[..., Machine]) -> None:
    with (
        closing(GuestMemory.allocate(RAM)) as memory,
        pytest.raises(AcceleratorUnavailable, match=f"at most {MAX_VCPUS}"),
    ):
        TcgAccelerator(memory, MAX_VCPUS + 1, RecordingBus())
    assert len(new_machine(vcpus=MAX_VCPUS).accelerator.vcpus) == MAX_VCPUS


def test_registers_are_those_of_the_guest(machine: Machine) -> None:
    assert machine.run(mov_eax(0x1234_5678) + done()) is RunEnd.KICKED
    registers = machine.vcpu.registers()
    assert registers["rax"] == 0x1234_5678
    assert registers["cr0"] == 0x8000_0033
    assert struct.pack("<Q", registers["cr3"])[1] == 0x20


@pytest.mark.parametrize("tsc_hz", [999_999_937, 2_596_147_873, 3_399_999_999, 5_700_123_457])
def test_the_ratio_of_leaf_15_is_exact_and_fits_linux(tsc_hz: int) -> None:
    denominator, numerator = tsc_ratio(tsc_hz)
    assert LAPIC_TIMER_HZ * numerator / denominator == pytest.approx(tsc_hz, rel=1e-5)
    assert LAPIC_TIMER_HZ // 1000 * numerator < 2**32

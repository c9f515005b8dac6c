"""The local APIC accepts, ranks and routes interrupts as Intel's SDM, volume 3A, chapter 11, says."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stratovirt.accel.tcg.irqchip import GeneralProtection

from .fakes import COMMAND_LOW, LVT_LINT0, LVT_TIMER, SPURIOUS_VECTOR, Bench

TPR, PPR, LDR, DFR = 0x80, 0xA0, 0xD0, 0xE0
ISR, TMR, IRR, ESR = 0x100, 0x180, 0x200, 0x280
LVT_ERROR = 0x370

SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
LOGICAL = 1 << 11
LOWEST_PRIORITY, NMI, INIT, STARTUP = 1 << 8, 4 << 8, 5 << 8, 6 << 8
ASSERT, LEVEL = 1 << 14, 1 << 15

APIC_BASE, TSC_DEADLINE = 0x1B, 0x6E0


def test_id_and_version_identify_an_integrated_apic_with_six_lvt_entries() -> None:
    bench = Bench(vcpus=3)
    assert [bench.read(0x20, cpu) >> 24 for cpu in range(3)] == [0, 1, 2]
    assert bench.read(0x30) == 0x50014


def test_power_on_state_is_disabled_by_software_with_virtual_wire_on_cpu_0() -> None:
    bench = Bench(vcpus=2)
    bench.chip.reset()
    assert bench.read(SPURIOUS_VECTOR) == 0xFF
    assert bench.read(DFR) == 0xFFFF_FFFF
    assert bench.read(LVT_LINT0, 0) == 0x700
    assert bench.read(LVT_LINT0, 1) == 0x10000
    assert bench.read(LVT_TIMER) == 0x10000


def test_an_accepted_interrupt_is_requested_then_in_service_then_gone() -> None:
    bench = Bench()
    bench.send_ipi(SELF | 0x41)
    assert bench.bits(IRR) == {0x41}
    assert bench.signals.interrupted == [0]
    assert bench.chip.acknowledge(0) == 0x41
    assert (bench.bits(IRR), bench.bits(ISR)) == (set(), {0x41})
    bench.end_of_interrupt()
    assert bench.bits(ISR) == set()


def test_acknowledge_without_a_pending_interrupt_returns_minus_one_and_changes_nothing() -> None:
    bench = Bench()
    assert not bench.chip.pending(0)
    assert bench.chip.acknowledge(0) == -1
    assert bench.bits(ISR) == set()


def test_the_highest_vector_is_taken_first() -> None:
    bench = Bench()
    for vector in (0x31, 0xF0, 0x80):
        bench.send_ipi(SELF | vector)
    assert bench.taken() == [0xF0, 0x80, 0x31]


def test_only_a_higher_class_interrupts_one_in_service() -> None:
    bench = Bench()
    bench.send_ipi(SELF | 0x52)
    assert bench.chip.acknowledge(0) == 0x52
    bench.send_ipi(SELF | 0x5F)
    assert not bench.chip.pending(0)
    bench.send_ipi(SELF | 0x60)
    assert bench.chip.acknowledge(0) == 0x60
    bench.end_of_interrupt()
    assert not bench.chip.pending(0)
    bench.signals.interrupted.clear()
    bench.end_of_interrupt()
    assert bench.signals.interrupted == [0]
    assert bench.chip.acknowledge(0) == 0x5F


def test_task_priority_holds_back_its_class_and_below() -> None:
    bench = Bench()
    bench.write(TPR, 0x50)
    bench.send_ipi(SELF | 0x5F)
    assert not bench.chip.pending(0)
    bench.signals.interrupted.clear()
    bench.write(TPR, 0x4F)
    assert bench.signals.interrupted == [0]
    assert bench.chip.acknowledge(0) == 0x5F


def test_processor_priority_is_the_higher_of_task_and_service() -> None:
    bench = Bench()
    bench.write(TPR, 0x35)
    assert bench.read(PPR) == 0x35
    bench.send_ipi(SELF | 0x7A)
    bench.chip.acknowledge(0)
    assert bench.read(PPR) == 0x70
    bench.write(TPR, 0x7C)
    assert bench.read(PPR) == 0x7C


def test_cr8_is_the_upper_half_of_the_task_priority() -> None:
    bench = Bench()
    bench.write(TPR, 0xA7)
    assert bench.chip.cr8(0) == 0xA
    bench.chip.set_cr8(0, 0x3)
    assert bench.read(TPR) == 0x30
    with pytest.raises(GeneralProtection):
        bench.chip.set_cr8(0, 0x10)


@pytest.mark.parametrize(
    ("shorthand", "reached"),
    [(SELF, {1}), (ALL, {0, 1, 2}), (OTHERS, {0, 2})],
)
def test_shorthands_ignore_the_destination_field(shorthand: int, reached: set[int]) -> None:
    bench = Bench(vcpus=3)
    bench.send_ipi(shorthand | 0x40, destination=0, cpu=1)
    assert {cpu for cpu in range(3) if bench.chip.pending(cpu)} == reached


@pytest.mark.parametrize(("destination", "reached"), [(2, {2}), (7, set()), (0xFF, {0, 1, 2})])
def test_a_physical_destination_is_an_id_or_everybody(destination: int, reached: set[int]) -> None:
    bench = Bench(vcpus=3)
    bench.send_ipi(0x40, destination)
    assert {cpu for cpu in range(3) if bench.chip.pending(cpu)} == reached


@pytest.mark.parametrize(
    ("destination", "reached"), [(0x02, {1}), (0x05, {0, 2}), (0xFF, {0, 1, 2}), (0x80, set())]
)
def test_a_flat_logical_destination_is_a_mask(destination: int, reached: set[int]) -> None:
    bench = Bench(vcpus=3)
    for cpu in range(3):
        bench.write(LDR, 1 << (24 + cpu), cpu)
    bench.send_ipi(LOGICAL | 0x40, destination)
    assert {cpu for cpu in range(3) if bench.chip.pending(cpu)} == reached


@pytest.mark.parametrize(
    ("destination", "reached"),
    [(0x11, {0}), (0x13, {0, 1}), (0x21, {2}), (0x23, {2}), (0xF1, {0, 2}), (0x31, set()), (0xFF, {0, 1, 2})],
)
def test_a_cluster_destination_is_a_cluster_and_a_mask_in_it(destination: int, reached: set[int]) -> None:
    bench = Bench(vcpus=3)
    for cpu, logical_id in enumerate((0x11, 0x12, 0x21)):
        bench.write(DFR, 0x0FFF_FFFF, cpu)
        bench.write(LDR, logical_id << 24, cpu)
    bench.send_ipi(LOGICAL | 0x40, destination)
    assert {cpu for cpu in range(3) if bench.chip.pending(cpu)} == reached


def test_lowest_priority_goes_to_one_cpu_the_least_busy_that_accepts() -> None:
    bench = Bench(vcpus=4)
    bench.write(SPURIOUS_VECTOR, 0xFF, 0)
    bench.write(TPR, 0x20, 1)
    bench.write(TPR, 0x10, 2)
    bench.write(TPR, 0x30, 3)
    bench.send_ipi(LOWEST_PRIORITY | 0x40, 0xFF)
    assert [cpu for cpu in range(4) if bench.chip.pending(cpu)] == [2]


def test_init_resets_the_target_and_a_startup_carries_its_vector() -> None:
    bench = Bench(vcpus=2)
    bench.send_ipi(0x40, destination=1)
    bench.send_ipi(INIT | LEVEL | ASSERT, destination=1)
    assert bench.signals.inits == [1]
    assert not bench.chip.pending(1)
    assert bench.read(SPURIOUS_VECTOR, 1) == 0xFF
    bench.send_ipi(STARTUP | 0x9A, destination=1)
    assert bench.signals.startups == [(1, 0x9A)]


def test_init_level_deassert_does_nothing() -> None:
    bench = Bench(vcpus=2)
    bench.send_ipi(INIT | LEVEL, destination=1)
    assert bench.signals.inits == []
    assert bench.read(SPURIOUS_VECTOR, 1) == 0x1FF


def test_nmi_reaches_a_cpu_whose_apic_is_disabled_by_software() -> None:
    bench = Bench(vcpus=2)
    bench.write(SPURIOUS_VECTOR, 0xFF, 1)
    bench.send_ipi(NMI, destination=1)
    assert bench.signals.nmis == [1]
    assert not bench.chip.pending(1)


def test_software_disable_refuses_new_interrupts_keeps_pending_ones_and_masks_the_lvt() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, 0x40)
    bench.send_ipi(SELF | 0x41)
    bench.write(SPURIOUS_VECTOR, 0xFF)
    bench.send_ipi(SELF | 0x51)
    assert bench.bits(IRR) == {0x41}
    assert bench.read(LVT_TIMER) == 0x10040
    bench.write(LVT_TIMER, 0x40)
    assert bench.read(LVT_TIMER) == 0x10040
    assert bench.chip.acknowledge(0) == 0x41


def test_delivery_status_always_reads_idle() -> None:
    bench = Bench()
    bench.send_ipi(SELF | 1 << 12 | 0x41)
    assert bench.read(COMMAND_LOW) == SELF | 0x41


def test_sending_an_illegal_vector_is_noted_and_raises_the_error_interrupt() -> None:
    bench = Bench()
    bench.write(LVT_ERROR, 0xFE)
    bench.send_ipi(SELF | 0x0F)
    assert bench.read(ESR) == 0
    bench.write(ESR, 0)
    assert bench.read(ESR) == 1 << 5
    assert bench.taken() == [0xFE]
    bench.write(ESR, 0)
    assert bench.read(ESR) == 0


def test_an_error_interrupt_with_an_illegal_vector_ends() -> None:
    bench = Bench()
    bench.write(LVT_ERROR, 0x01)
    bench.send_ipi(SELF | 0x0F)
    bench.write(ESR, 0)
    assert bench.read(ESR) == 1 << 5 | 1 << 6
    assert not bench.chip.pending(0)


def test_a_reserved_register_reads_zero_and_is_noted() -> None:
    bench = Bench()
    assert bench.read(0x3F0) == 0
    bench.write(ESR, 0)
    assert bench.read(ESR) == 1 << 7
    bench.write(0x40, 1)
    bench.write(ESR, 0)
    assert bench.read(ESR) == 1 << 7


def test_the_bootstrap_flag_belongs_to_cpu_0() -> None:
    bench = Bench(vcpus=2)
    assert bench.chip.msr_read(0, APIC_BASE) == 0xFEE0_0900
    assert bench.chip.msr_read(1, APIC_BASE) == 0xFEE0_0800


def test_disabling_the_apic_hides_its_registers_and_loses_its_state() -> None:
    bench = Bench()
    bench.send_ipi(SELF | 0x41)
    assert bench.chip.msr_write(0, APIC_BASE, 0xFEE0_0100)
    assert bench.chip.msr_read(0, APIC_BASE) == 0xFEE0_0100
    assert bench.read(SPURIOUS_VECTOR) == 0xFFFF_FFFF
    assert not bench.chip.pending(0)
    assert bench.chip.msr_write(0, APIC_BASE, 0xFEE0_0900)
    assert bench.read(SPURIOUS_VECTOR) == 0xFF


def test_a_disabled_apic_hears_no_message() -> None:
    bench = Bench(vcpus=2)
    bench.chip.msr_write(1, APIC_BASE, 0xFEE0_0000)
    bench.send_ipi(NMI, destination=1)
    bench.send_ipi(0x41, destination=1)
    bench.write(SPURIOUS_VECTOR, 0x1FF, cpu=1)
    assert bench.signals.nmis == []
    assert not bench.chip.pending(1)


@pytest.mark.parametrize("value", [0xFEE0_0D00, 0xFEE0_0801, 0xFED0_0900, 1 << 60 | 0xFEE0_0900, 0])
def test_apic_base_refuses_x2apic_reserved_bits_and_relocation(value: int) -> None:
    bench = Bench()
    with pytest.raises(GeneralProtection):
        bench.chip.msr_write(0, APIC_BASE, value)
    assert bench.chip.msr_read(0, APIC_BASE) == 0xFEE0_0900


def test_other_msrs_are_not_the_chips() -> None:
    bench = Bench()
    assert bench.chip.msr_read(0, 0x10) is None
    assert bench.chip.msr_write(0, 0x10, 0) is False


VECTORS = st.integers(16, 255)


class Priorities(RuleBasedStateMachine):
    """One local APIC against sets and a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.requested: set[int] = set()
        self.in_service: list[int] = []
        self.task_class = 0

    def deliverable(self) -> int:
        vector = max(self.requested, default=-1)
        busy = max([self.task_class, *(v >> 4 for v in self.in_service)])
        return vector if vector >> 4 > busy else -1

    @rule(vector=VECTORS)
    def request(self, vector: int) -> None:
        self.bench.send_ipi(SELF | vector)
        self.requested.add(vector)

    @rule(priority=st.integers(0, 255))
    def set_task_priority(self, priority: int) -> None:
        self.bench.write(TPR, priority)
        self.task_class = priority >> 4

    @rule(priority=st.integers(0, 15))
    def move_to_cr8(self, priority: int) -> None:
        self.bench.chip.set_cr8(0, priority)
        self.task_class = priority

    @rule()
    def acknowledge(self) -> None:
        expected = self.deliverable()
        assert self.bench.chip.acknowledge(0) == expected
        if expected >= 0:
            self.requested.remove(expected)
            self.in_service.append(expected)

    @precondition(lambda self: self.in_service)
    @rule()
    def end(self) -> None:
        self.bench.end_of_interrupt()
        self.in_service.pop()

    @invariant()
    def pending_agrees_with_the_priorities(self) -> None:
        assert self.bench.chip.pending(0) == (self.deliverable() >= 0)

    @invariant()
    def each_nested_interrupt_is_of_a_higher_class(self) -> None:
        classes = [vector >> 4 for vector in self.in_service]
        assert classes == sorted(set(classes))

    @invariant()
    def registers_show_what_is_requested_and_in_service(self) -> None:
        assert self.bench.bits(IRR) == self.requested
        assert self.bench.bits(ISR) == set(self.in_service)


TestPriorities = Priorities.TestCase

"""The pair of 8259A answers INTA as its data sheet says, in fully nested and the other modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .fakes import LVT_LINT0, PIC_BASE, PIC_BASE_SLAVE, Bench

MASTER, SLAVE = 0x20, 0xA0
END_OF_INTERRUPT, READ_IRR, READ_ISR, POLL = 0x20, 0x0A, 0x0B, 0x0C
EXTINT = 0x700


def bench_with_pic(icw4: int = 0x01) -> Bench:
    """CPU 0 takes the pair's interrupts through LINT0; every input unmasked."""
    bench = Bench()
    bench.write(LVT_LINT0, EXTINT)
    bench.initialize_pic(icw4)
    return bench


def in_service(bench: Bench, chip: int = MASTER) -> int:
    bench.chip.port_write(chip, READ_ISR)
    return bench.chip.port_read(chip)


def requested(bench: Bench, chip: int = MASTER) -> int:
    bench.chip.port_write(chip, READ_IRR)
    return bench.chip.port_read(chip)


def test_nothing_interrupts_before_initialization_is_complete() -> None:
    bench = Bench()
    bench.write(LVT_LINT0, EXTINT)
    bench.pulse(4)
    assert not bench.chip.pending(0)
    bench.ports((MASTER, 0x11), (MASTER + 1, PIC_BASE), (MASTER + 1, 0x04))
    bench.pulse(4)
    assert not bench.chip.pending(0)
    bench.ports((MASTER + 1, 0x01))
    assert bench.chip.acknowledge(0) == PIC_BASE + 4


def test_the_mask_can_be_probed_before_initialization() -> None:
    bench = Bench()
    bench.chip.port_write(MASTER + 1, 0xFB)
    assert bench.chip.port_read(MASTER + 1) == 0xFB


@pytest.mark.parametrize("irq", [0, 1, 3, 4, 5, 6, 7])
def test_a_master_input_gives_its_vector(irq: int) -> None:
    bench = bench_with_pic()
    bench.pulse(irq)
    assert bench.signals.interrupted[-1:] == [0]
    assert bench.chip.acknowledge(0) == PIC_BASE + irq
    assert in_service(bench) == 1 << irq
    bench.chip.port_write(MASTER, END_OF_INTERRUPT)
    assert in_service(bench) == 0


@pytest.mark.parametrize("irq", range(8, 16))
def test_a_slave_input_gives_its_vector_and_occupies_the_cascade(irq: int) -> None:
    bench = bench_with_pic()
    bench.pulse(irq)
    assert bench.chip.acknowledge(0) == PIC_BASE_SLAVE + irq - 8
    assert (in_service(bench), in_service(bench, SLAVE)) == (1 << 2, 1 << irq - 8)


def test_gsi_2_and_those_above_15_do_not_reach_the_pair() -> None:
    bench = bench_with_pic()
    for gsi in (2, 16, 23):
        bench.pulse(gsi)
    assert not bench.chip.pending(0)


def test_a_masked_input_waits_until_it_is_unmasked() -> None:
    bench = bench_with_pic()
    bench.chip.port_write(MASTER + 1, 1 << 4)
    bench.pulse(4)
    assert not bench.chip.pending(0)
    assert requested(bench) == 1 << 4
    bench.chip.port_write(MASTER + 1, 0)
    assert bench.chip.acknowledge(0) == PIC_BASE + 4


def test_lower_priorities_wait_for_the_end_of_interrupt_and_higher_ones_nest() -> None:
    bench = bench_with_pic()
    bench.pulse(4)
    bench.chip.acknowledge(0)
    bench.pulse(6)
    assert not bench.chip.pending(0)
    bench.pulse(1)
    assert bench.chip.acknowledge(0) == PIC_BASE + 1
    bench.chip.port_write(MASTER, END_OF_INTERRUPT)
    assert not bench.chip.pending(0)
    bench.chip.port_write(MASTER, END_OF_INTERRUPT)
    assert bench.chip.acknowledge(0) == PIC_BASE + 6


def test_a_level_that_falls_before_the_acknowledgement_is_forgotten() -> None:
    bench = bench_with_pic()
    bench.chip.port_write(0x4D0, 1 << 5)
    bench.chip.line(5).set_level(True)
    bench.chip.line(5).set_level(False)
    assert not bench.chip.pending(0)
    assert requested(bench) == 0
    assert in_service(bench) == 0


def test_a_level_triggered_input_interrupts_for_as_long_as_it_is_high() -> None:
    bench = bench_with_pic()
    bench.chip.port_write(0x4D1, 1 << 3)
    line = bench.chip.line(11)
    line.set_level(True)
    for _ in range(2):
        assert bench.chip.acknowledge(0) == PIC_BASE_SLAVE + 3
        bench.ports((SLAVE, END_OF_INTERRUPT), (MASTER, END_OF_INTERRUPT))
    line.set_level(False)
    assert not bench.chip.pending(0)


def test_system_inputs_stay_edge_triggered() -> None:
    bench = bench_with_pic()
    bench.ports((0x4D0, 0xFF), (0x4D1, 0xFF))
    assert (bench.chip.port_read(0x4D0), bench.chip.port_read(0x4D1)) == (0xF8, 0xDE)


def test_automatic_end_of_interrupt_leaves_nothing_in_service() -> None:
    bench = bench_with_pic(icw4=0x03)
    bench.pulse(4)
    assert bench.chip.acknowledge(0) == PIC_BASE + 4
    assert in_service(bench) == 0


def test_rotation_in_automatic_mode_makes_the_served_input_the_last() -> None:
    bench = bench_with_pic(icw4=0x03)
    bench.chip.port_write(MASTER, 0x80)
    bench.pulse(3)
    bench.chip.acknowledge(0)
    bench.pulse(1)
    bench.pulse(4)
    assert [bench.chip.acknowledge(0), bench.chip.acknowledge(0)] == [PIC_BASE + 4, PIC_BASE + 1]


def test_a_specific_end_of_interrupt_ends_the_one_named() -> None:
    bench = bench_with_pic()
    for irq in (5, 3):
        bench.pulse(irq)
        bench.chip.acknowledge(0)
    bench.chip.port_write(MASTER, 0x60 | 5)
    assert in_service(bench) == 1 << 3


def test_rotating_end_of_interrupt_makes_the_ended_input_the_last() -> None:
    bench = bench_with_pic()
    bench.pulse(3)
    bench.chip.acknowledge(0)
    bench.chip.port_write(MASTER, 0xA0)
    bench.pulse(3)
    bench.pulse(7)
    assert bench.chip.acknowledge(0) == PIC_BASE + 7


def test_set_priority_names_the_lowest_input() -> None:
    bench = bench_with_pic()
    bench.chip.port_write(MASTER, 0xC0 | 4)
    bench.pulse(4)
    bench.pulse(5)
    assert bench.chip.acknowledge(0) == PIC_BASE + 5


def test_special_mask_mode_lets_lower_priorities_through_a_masked_service() -> None:
    bench = bench_with_pic()
    bench.pulse(1)
    bench.chip.acknowledge(0)
    bench.pulse(6)
    bench.ports((MASTER, 0x68), (MASTER + 1, 1 << 1))
    assert bench.chip.acknowledge(0) == PIC_BASE + 6


def test_special_fully_nested_mode_lets_a_higher_slave_input_nest() -> None:
    bench = bench_with_pic(icw4=0x11)
    bench.pulse(12)
    assert bench.chip.acknowledge(0) == PIC_BASE_SLAVE + 4
    bench.pulse(9)
    assert bench.chip.acknowledge(0) == PIC_BASE_SLAVE + 1


def test_a_slave_input_does_not_nest_without_special_fully_nested_mode() -> None:
    bench = bench_with_pic()
    bench.pulse(12)
    bench.chip.acknowledge(0)
    bench.pulse(9)
    assert not bench.chip.pending(0)


def test_poll_takes_the_request_in_place_of_an_acknowledgement() -> None:
    bench = bench_with_pic()
    bench.pulse(4)
    bench.chip.port_write(MASTER, POLL)
    assert bench.chip.port_read(MASTER) == 0x84
    assert in_service(bench) == 1 << 4
    assert not bench.chip.pending(0)
    bench.chip.port_write(MASTER, POLL)
    assert bench.chip.port_read(MASTER) == 0


def test_initialization_forgets_requests_services_and_the_mask() -> None:
    bench = bench_with_pic()
    bench.pulse(1)
    bench.chip.acknowledge(0)
    bench.chip.port_write(MASTER + 1, 0xFF)
    bench.pulse(5)
    bench.initialize_pic()
    assert (in_service(bench), requested(bench), bench.chip.port_read(MASTER + 1)) == (0, 0, 0)


def test_the_pair_interrupts_cpu_0_only_while_lint0_lets_it() -> None:
    bench = bench_with_pic()
    bench.write(LVT_LINT0, 0x10000 | EXTINT)
    bench.pulse(4)
    assert not bench.chip.pending(0)
    bench.write(LVT_LINT0, EXTINT)
    assert bench.chip.pending(0)


def test_without_a_local_apic_the_pair_drives_the_interrupt_pin() -> None:
    bench = bench_with_pic()
    bench.write(LVT_LINT0, 0x10000)
    bench.chip.msr_write(0, 0x1B, 0xFEE0_0100)
    bench.pulse(4)
    assert bench.chip.acknowledge(0) == PIC_BASE + 4


def test_lint0_in_fixed_mode_sees_the_rise_as_an_apic_interrupt() -> None:
    bench = bench_with_pic()
    bench.write(LVT_LINT0, 0x77)
    bench.pulse(4)
    assert bench.taken() == [0x77]


def test_lint0_in_nmi_mode_sees_the_rise_as_nmi() -> None:
    bench = bench_with_pic()
    bench.write(LVT_LINT0, 0x400)
    bench.pulse(4)
    assert bench.signals.nmis == [0]
    assert not bench.chip.pending(0)


def test_the_pair_comes_before_the_local_apic() -> None:
    bench = bench_with_pic()
    bench.send_ipi(1 << 18 | 0xF0)
    bench.pulse(4)
    assert bench.chip.acknowledge(0) == PIC_BASE + 4
    assert bench.chip.acknowledge(0) == 0xF0


@given(
    writes=st.lists(st.tuples(st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1]), st.integers(0, 255)))
)
def test_no_sequence_of_writes_keeps_a_fresh_initialization_from_working(
    writes: list[tuple[int, int]],
) -> None:
    bench = bench_with_pic()
    bench.ports(*writes)
    for chip in (MASTER, SLAVE):
        bench.chip.port_read(chip)
    bench.ports((0x4D0, 0), (0x4D1, 0))
    bench.initialize_pic()
    bench.pulse(4)
    assert bench.chip.acknowledge(0) == PIC_BASE + 4


INPUTS = st.sampled_from([0, 1, 3, 4, 5, 6, 7])


class FullyNested(RuleBasedStateMachine):
    """The master in its plain mode against sets: lower input numbers come first, and nest."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = bench_with_pic()
        self.requested: set[int] = set()
        self.in_service: set[int] = set()
        self.masked: set[int] = set()

    def deliverable(self) -> int | None:
        first = min(self.requested - self.masked, default=8)
        return first if first < min(self.in_service, default=8) else None

    @rule(irq=INPUTS)
    def request(self, irq: int) -> None:
        self.bench.pulse(irq)
        self.requested.add(irq)

    @rule(masked=st.sets(INPUTS))
    def mask(self, masked: set[int]) -> None:
        self.bench.chip.port_write(MASTER + 1, sum(1 << irq for irq in masked))
        self.masked = masked

    @rule()
    def acknowledge(self) -> None:
        irq = self.deliverable()
        assert self.bench.chip.acknowledge(0) == (-1 if irq is None else PIC_BASE + irq)
        if irq is not None:
            self.requested.remove(irq)
            self.in_service.add(irq)

    @rule()
    def end(self) -> None:
        self.bench.chip.port_write(MASTER, END_OF_INTERRUPT)
        self.in_service.discard(min(self.in_service, default=8))

    @invariant()
    def pending_agrees_with_the_priorities(self) -> None:
        assert self.bench.chip.pending(0) == (self.deliverable() is not None)

    @invariant()
    def registers_show_what_is_requested_and_in_service(self) -> None:
        assert requested(self.bench) == sum(1 << irq for irq in self.requested)
        assert in_service(self.bench) == sum(1 << irq for irq in self.in_service)


TestFullyNested = FullyNested.TestCase

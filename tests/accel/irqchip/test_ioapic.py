"""The I/O APIC redirects edges once and levels for as long as they are high (Intel 82093AA, section 3)."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .fakes import SPURIOUS_VECTOR, Bench

LOWEST_PRIORITY, NMI = 1 << 8, 4 << 8
LOGICAL, REMOTE_IRR, LEVEL, MASKED = 1 << 11, 1 << 14, 1 << 15, 1 << 16
TMR = 0x180


def test_identification_is_version_0x20_with_24_pins() -> None:
    bench = Bench()
    assert bench.read_ioapic(1) == 0x170020
    bench.write_ioapic(0, 0xFFFF_FFFF)
    assert bench.read_ioapic(0) == bench.read_ioapic(2) == 0x0F00_0000


def test_every_pin_is_masked_out_of_reset() -> None:
    bench = Bench()
    bench.redirect(5, 0x41)
    bench.chip.reset()
    assert [bench.entry(pin) for pin in range(24)] == [MASKED] * 24


def test_status_bits_of_an_entry_cannot_be_written() -> None:
    bench = Bench()
    bench.redirect(5, 0xFFFF_FFFF_FFFF_FFFF)
    assert bench.entry(5) == 0xFF00_0000_0001_AFFF


def test_an_edge_interrupts_once_per_rise() -> None:
    bench = Bench()
    bench.redirect(4, 0x41)
    line = bench.chip.line(4)
    line.set_level(True)
    line.set_level(True)
    assert bench.taken() == [0x41]
    assert bench.bits(TMR) == set()
    line.set_level(False)
    assert bench.taken() == []
    line.set_level(True)
    assert bench.taken() == [0x41]


def test_an_edge_on_a_masked_pin_is_lost() -> None:
    bench = Bench()
    bench.redirect(4, MASKED | 0x41)
    bench.chip.line(4).set_level(True)
    bench.redirect(4, 0x41)
    assert not bench.chip.pending(0)


def test_a_level_is_one_interrupt_until_its_end_and_another_while_it_stays_high() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    line = bench.chip.line(16)
    line.set_level(True)
    assert bench.entry(16) == LEVEL | REMOTE_IRR | 0x41
    assert bench.chip.acknowledge(0) == 0x41
    assert bench.bits(TMR) == {0x41}
    assert not bench.chip.pending(0)
    bench.end_of_interrupt()
    assert bench.chip.acknowledge(0) == 0x41
    line.set_level(False)
    bench.end_of_interrupt()
    assert not bench.chip.pending(0)
    assert bench.entry(16) == LEVEL | 0x41


def test_an_edge_after_a_level_of_the_same_vector_ends_without_a_broadcast() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    bench.pulse(16)
    assert bench.taken() == [0x41]
    bench.redirect(4, 0x41)
    bench.pulse(4)
    assert bench.bits(TMR) == set()


def test_a_level_that_falls_and_rises_in_service_interrupts_again_at_the_end() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    bench.pulse(16)
    assert bench.chip.acknowledge(0) == 0x41
    bench.chip.line(16).set_level(True)
    assert not bench.chip.pending(0)
    bench.end_of_interrupt()
    assert bench.chip.pending(0)


def test_unmasking_a_pin_whose_level_is_high_interrupts() -> None:
    bench = Bench()
    bench.redirect(16, MASKED | LEVEL | 0x41)
    bench.chip.line(16).set_level(True)
    assert not bench.chip.pending(0)
    bench.redirect(16, LEVEL | 0x41)
    assert bench.chip.pending(0)


def test_pins_that_share_a_vector_end_together() -> None:
    bench = Bench()
    for pin in (16, 17):
        bench.redirect(pin, LEVEL | 0x41)
        bench.chip.line(pin).set_level(True)
    assert bench.chip.acknowledge(0) == 0x41
    bench.chip.line(16).set_level(False)
    bench.end_of_interrupt()
    assert bench.entry(16) == LEVEL | 0x41
    assert bench.entry(17) == LEVEL | REMOTE_IRR | 0x41
    assert bench.chip.pending(0)


def test_the_eoi_register_ends_a_vector_as_a_cpu_does() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    bench.pulse(16)
    bench.chip.ioapic_write(0x40, 0x42)
    assert bench.entry(16) & REMOTE_IRR
    bench.chip.ioapic_write(0x40, 0x41)
    assert not bench.entry(16) & REMOTE_IRR


def test_switching_a_pin_to_edge_clears_remote_irr() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    bench.pulse(16)
    bench.redirect(16, MASKED | 0x41)
    bench.redirect(16, LEVEL | 0x41)
    assert not bench.entry(16) & REMOTE_IRR


def test_a_level_that_nobody_accepts_is_not_waited_for() -> None:
    bench = Bench()
    bench.write(SPURIOUS_VECTOR, 0xFF)
    bench.redirect(16, LEVEL | 0x41)
    bench.chip.line(16).set_level(True)
    assert not bench.entry(16) & REMOTE_IRR
    bench.write(SPURIOUS_VECTOR, 0x1FF)
    bench.redirect(16, LEVEL | 0x41)
    assert bench.chip.acknowledge(0) == 0x41


def test_the_destination_field_chooses_the_cpu() -> None:
    bench = Bench(vcpus=3)
    bench.redirect(4, 2 << 56 | 0x41)
    bench.pulse(4)
    assert [cpu for cpu in range(3) if bench.chip.pending(cpu)] == [2]


def test_lowest_priority_interrupts_one_of_a_logical_set() -> None:
    bench = Bench(vcpus=3)
    for cpu in range(3):
        bench.write(0xD0, 1 << (24 + cpu), cpu)
    bench.write(0x80, 0x20, 1)
    bench.redirect(4, 0x06 << 56 | LOGICAL | LOWEST_PRIORITY | 0x41)
    bench.pulse(4)
    assert [cpu for cpu in range(3) if bench.chip.pending(cpu)] == [2]


def test_nmi_delivery_reaches_the_cpu_as_nmi() -> None:
    bench = Bench()
    bench.redirect(4, NMI)
    bench.pulse(4)
    assert bench.signals.nmis == [0]
    assert not bench.chip.pending(0)


def test_gsi_0_arrives_at_pin_2() -> None:
    bench = Bench()
    bench.redirect(0, 0x50)
    bench.redirect(2, 0x52)
    bench.pulse(0)
    assert bench.taken() == [0x52]


@pytest.mark.parametrize("index", [3, 0x0F, 0x40, 0xFF])
def test_reserved_indices_read_zero_and_drop_writes(index: int) -> None:
    bench = Bench()
    bench.write_ioapic(index, 0xFFFF_FFFF)
    assert bench.read_ioapic(index) == 0


PINS = st.sampled_from([5, 6, 7])


class Levels(RuleBasedStateMachine):
    """Level-triggered lines, as a device driver sees them: a high, unmasked line is never forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.high: set[int] = set()
        self.unmasked: set[int] = set()
        self.in_service: list[int] = []

    @rule(pin=PINS, level=st.booleans())
    def drive(self, pin: int, level: bool) -> None:
        self.bench.chip.line(pin).set_level(level)
        (self.high.add if level else self.high.discard)(pin)

    @rule(pin=PINS, mask=st.booleans())
    def program(self, pin: int, mask: bool) -> None:
        self.bench.redirect(pin, LEVEL | (MASKED if mask else 0) | pin << 4)
        (self.unmasked.discard if mask else self.unmasked.add)(pin)

    @rule()
    def acknowledge(self) -> None:
        vector = self.bench.chip.acknowledge(0)
        if vector >= 0:
            assert all(vector >> 4 > earlier >> 4 for earlier in self.in_service)
            self.in_service.append(vector)

    @rule()
    def end(self) -> None:
        self.bench.end_of_interrupt()
        del self.in_service[-1:]

    @invariant()
    def a_high_unmasked_line_is_requested_or_in_service(self) -> None:
        requested = self.bench.bits(0x200)
        for pin in self.high & self.unmasked:
            assert pin << 4 in requested | set(self.in_service)

    @invariant()
    def remote_irr_says_that_an_end_is_awaited(self) -> None:
        awaited = self.bench.bits(0x200) | set(self.in_service)
        for pin in (5, 6, 7):
            assert bool(self.bench.entry(pin) & REMOTE_IRR) == ((pin << 4) in awaited)


TestLevels = Levels.TestCase

"""The local APIC's timer fires at the exact guest nanosecond, in each of its modes (SDM 3A, 11.5.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .fakes import LVT_TIMER, Bench

INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0
TSC_DEADLINE = 0x6E0
MASKED, PERIODIC, DEADLINE_MODE = 1 << 16, 1 << 17, 2 << 17
VECTOR = 0xEC

DIVISORS = {0b0000: 2, 0b0001: 4, 0b0010: 8, 0b0011: 16, 0b1000: 32, 0b1001: 64, 0b1010: 128, 0b1011: 1}


@pytest.mark.parametrize(("configuration", "divisor"), DIVISORS.items())
def test_a_one_shot_expires_after_count_times_divisor_nanoseconds(configuration: int, divisor: int) -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(LVT_TIMER, VECTOR)
    bench.write(DIVIDE, configuration)
    bench.write(INITIAL_COUNT, 1000)
    assert bench.expiries(start + 1_000_000) == [start + 1000 * divisor]
    assert bench.taken() == [VECTOR]
    assert bench.read(CURRENT_COUNT) == 0
    assert bench.read(INITIAL_COUNT) == 1000


def test_expire_before_the_deadline_does_nothing() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, VECTOR)
    bench.write(INITIAL_COUNT, 500)
    bench.clock.now += 999
    bench.chip.expire()
    assert not bench.chip.pending(0)
    bench.clock.now += 1
    bench.chip.expire()
    assert bench.chip.pending(0)


def test_the_current_count_runs_down_with_guest_time_and_stands_with_it() -> None:
    bench = Bench()
    bench.write(INITIAL_COUNT, 1000)
    assert bench.read(CURRENT_COUNT) == 1000
    bench.clock.now += 601
    assert [bench.read(CURRENT_COUNT), bench.read(CURRENT_COUNT)] == [700, 700]


def test_a_periodic_timer_expires_on_a_grid_without_drift() -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(LVT_TIMER, PERIODIC | VECTOR)
    bench.write(DIVIDE, 0b1011)
    bench.write(INITIAL_COUNT, 1_000_003)
    assert bench.expiries(start + 3_500_000) == [start + 1_000_003 * k for k in (1, 2, 3)]
    assert bench.read(CURRENT_COUNT) == 4 * 1_000_003 - 3_500_000


def test_missed_periodic_ticks_count_as_one_and_the_grid_stays() -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(LVT_TIMER, PERIODIC | VECTOR)
    bench.write(DIVIDE, 0b1011)
    bench.write(INITIAL_COUNT, 1_000_000)
    bench.clock.now = start + 5_400_000
    bench.chip.expire()
    assert bench.chip.next_deadline() == start + 6_000_000
    assert bench.taken() == [VECTOR]


def test_a_periodic_timer_is_not_faster_than_kvm_allows() -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(LVT_TIMER, PERIODIC | VECTOR)
    bench.write(INITIAL_COUNT, 1)
    assert bench.expiries(start + 1_000_000) == [start + 200_000 * k for k in (1, 2, 3, 4, 5)]


def test_a_count_of_zero_stops_the_timer() -> None:
    bench = Bench()
    bench.write(INITIAL_COUNT, 1000)
    bench.write(INITIAL_COUNT, 0)
    assert bench.chip.next_deadline() is None
    assert bench.read(CURRENT_COUNT) == 0


def test_a_new_divisor_goes_on_from_the_count_reached() -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(INITIAL_COUNT, 1000)
    bench.clock.now += 800
    bench.write(DIVIDE, 0b0011)
    assert bench.read(CURRENT_COUNT) == 600
    assert bench.chip.next_deadline() == start + 800 + 600 * 16


def test_a_masked_timer_expires_without_an_interrupt() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, MASKED | VECTOR)
    bench.write(INITIAL_COUNT, 1000)
    assert len(bench.expiries(bench.clock.now + 2000)) == 1
    assert not bench.chip.pending(0)


def test_switching_between_one_shot_and_periodic_does_not_restart_the_count() -> None:
    bench = Bench()
    start = bench.clock.now
    bench.write(LVT_TIMER, PERIODIC | VECTOR)
    bench.write(INITIAL_COUNT, 500_000)
    bench.expiries(start + 1_200_000)
    bench.write(LVT_TIMER, VECTOR)
    assert bench.read(CURRENT_COUNT) == 400_000
    assert bench.expiries(start + 5_000_000) == [start + 2_000_000]


def test_a_one_shot_that_is_over_stays_over() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, VECTOR)
    bench.write(INITIAL_COUNT, 1000)
    bench.expiries(bench.clock.now + 3000)
    bench.write(LVT_TIMER, PERIODIC | VECTOR)
    bench.write(DIVIDE, 0b1011)
    assert bench.read(CURRENT_COUNT) == 0
    assert bench.chip.next_deadline() is None


@given(ticks=st.integers(1, 1 << 40))
def test_a_tsc_deadline_expires_at_the_first_nanosecond_at_which_the_tsc_has_it(ticks: int) -> None:
    bench = Bench()
    bench.write(LVT_TIMER, DEADLINE_MODE | VECTOR)
    target = bench.clock.tsc() + ticks
    assert bench.chip.msr_write(0, TSC_DEADLINE, target)
    assert bench.chip.msr_read(0, TSC_DEADLINE) == target
    deadline = bench.chip.next_deadline()
    assert deadline is not None
    bench.expiries(deadline)
    assert bench.clock.tsc() >= target
    bench.clock.now -= 2  # now() and tsc() are truncated, each on its own
    assert bench.clock.tsc() < target
    assert bench.taken() == [VECTOR]
    assert bench.chip.msr_read(0, TSC_DEADLINE) == 0


def test_a_tsc_deadline_in_the_past_is_due_at_once() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, DEADLINE_MODE | VECTOR)
    bench.chip.msr_write(0, TSC_DEADLINE, 1)
    assert bench.chip.next_deadline() == bench.clock.now
    bench.chip.expire()
    assert bench.taken() == [VECTOR]
    assert bench.chip.next_deadline() is None


def test_zero_disarms_the_tsc_deadline() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, DEADLINE_MODE | VECTOR)
    bench.chip.msr_write(0, TSC_DEADLINE, bench.clock.tsc() + 1000)
    bench.chip.msr_write(0, TSC_DEADLINE, 0)
    assert bench.chip.next_deadline() is None


def test_each_mode_ignores_the_others_register() -> None:
    bench = Bench()
    bench.write(LVT_TIMER, VECTOR)
    bench.chip.msr_write(0, TSC_DEADLINE, 1)
    assert bench.chip.msr_read(0, TSC_DEADLINE) == 0
    bench.write(LVT_TIMER, DEADLINE_MODE | VECTOR)
    bench.write(INITIAL_COUNT, 1000)
    assert bench.read(INITIAL_COUNT) == 0
    assert bench.chip.next_deadline() is None


def test_entering_or_leaving_deadline_mode_disarms() -> None:
    bench = Bench()
    bench.write(INITIAL_COUNT, 1000)
    bench.write(LVT_TIMER, DEADLINE_MODE | VECTOR)
    assert bench.chip.next_deadline() is None
    bench.chip.msr_write(0, TSC_DEADLINE, bench.clock.tsc() + 1000)
    bench.write(LVT_TIMER, VECTOR)
    assert bench.chip.next_deadline() is None


def test_the_next_deadline_is_the_earliest_of_all_cpus_and_is_told_when_it_moves_forward() -> None:
    bench = Bench(vcpus=2)
    start = bench.clock.now
    bench.write(INITIAL_COUNT, 1000, cpu=0)
    assert bench.signals.deadline_changes == 1
    bench.write(INITIAL_COUNT, 2000, cpu=1)
    assert bench.signals.deadline_changes == 1
    bench.write(INITIAL_COUNT, 500, cpu=1)
    assert bench.signals.deadline_changes == 2
    assert bench.chip.next_deadline() == start + 1000
    bench.write(INITIAL_COUNT, 0, cpu=1)
    assert bench.chip.next_deadline() == start + 2000


def test_init_stops_the_timer_of_its_target() -> None:
    bench = Bench(vcpus=2)
    bench.write(INITIAL_COUNT, 1000, cpu=1)
    bench.send_ipi(0x4500, destination=1)
    assert bench.chip.next_deadline() is None

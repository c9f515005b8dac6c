"""The 8254 counts guest time: exact deadlines, counts and outputs in each mode of the data sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .fakes import LVT_LINT0, PIC_BASE, Bench

PIT_HZ = 1_193_182
VECTOR = 0x42
OUT = 0x20
GATE = 0x01


def ns(ticks: int) -> int:
    """First nanosecond by which ``ticks`` have passed."""
    return -(-ticks * 1_000_000_000 // PIT_HZ)


def bench_with_timer(mode: int, count: int) -> tuple[Bench, int]:
    """Channel 0 in ``mode`` from now on, redirected to CPU 0; the bench and now."""
    bench = Bench()
    bench.redirect(2, VECTOR)
    start(bench, 0, mode, count)
    return bench, bench.clock.now


def start(bench: Bench, channel: int, mode: int, count: int) -> None:
    bench.ports((0x43, channel << 6 | 0x30 | mode << 1))
    bench.ports((0x40 + channel, count & 0xFF), (0x40 + channel, count >> 8))


def count_of(bench: Bench, channel: int) -> int:
    bench.chip.port_write(0x43, channel << 6)
    low, high = bench.chip.port_read(0x40 + channel), bench.chip.port_read(0x40 + channel)
    return low | high << 8


def output(bench: Bench) -> bool:
    return bool(bench.chip.port_read(0x61) & OUT)


@pytest.mark.parametrize(("mode", "rise"), [(0, 1000), (4, 1001)])
def test_modes_0_and_4_interrupt_once(mode: int, rise: int) -> None:
    bench, begin = bench_with_timer(mode, 1000)
    assert bench.expiries(begin + ns(100_000)) == [begin + ns(rise)]
    assert bench.taken() == [VECTOR]


@pytest.mark.parametrize("mode", [2, 3, 6, 7])
def test_modes_2_and_3_interrupt_once_per_period_without_drift(mode: int) -> None:
    bench, begin = bench_with_timer(mode, 11932)
    stops = bench.expiries(begin + ns(11932 * 1000))
    assert stops == [begin + ns(11932 * k) for k in range(1, 1001)]


@pytest.mark.parametrize("mode", [1, 5])
def test_gate_triggered_modes_do_not_interrupt_from_channel_0_whose_gate_never_rises(mode: int) -> None:
    bench, _ = bench_with_timer(mode, 1000)
    assert bench.chip.next_deadline() is None


def test_a_count_of_zero_means_65536() -> None:
    bench, begin = bench_with_timer(2, 0)
    assert bench.chip.next_deadline() == begin + ns(65536)


def test_missed_ticks_count_as_one_and_the_grid_stays() -> None:
    bench, begin = bench_with_timer(2, 10_000)
    bench.clock.now = begin + ns(35_000)
    bench.chip.expire()
    assert bench.taken() == [VECTOR]
    assert bench.chip.next_deadline() == begin + ns(40_000)


def test_a_period_that_would_flood_is_thinned_out_to_a_multiple() -> None:
    bench, begin = bench_with_timer(2, 100)
    assert bench.expiries(begin + ns(900)) == [begin + ns(300), begin + ns(600), begin + ns(900)]


def test_each_tick_is_an_edge_to_the_8259_too() -> None:
    bench, begin = bench_with_timer(2, 10_000)
    bench.redirect(2, 1 << 16)
    bench.write(LVT_LINT0, 0x700)
    bench.initialize_pic(icw4=0x03)
    bench.expiries(begin + ns(10_000))
    assert bench.chip.acknowledge(0) == PIC_BASE
    assert not bench.chip.pending(0)
    bench.expiries(begin + ns(20_000))
    assert bench.chip.acknowledge(0) == PIC_BASE


def test_a_control_word_stops_channel_0_until_a_whole_count_is_written() -> None:
    bench, _ = bench_with_timer(2, 10_000)
    bench.ports((0x43, 0x34))
    assert bench.chip.next_deadline() is None
    bench.ports((0x40, 0x10))
    assert bench.chip.next_deadline() is None
    bench.ports((0x40, 0x27))
    assert bench.chip.next_deadline() == bench.clock.now + ns(10_000)


def test_the_first_byte_of_a_new_count_stops_mode_0() -> None:
    bench, _ = bench_with_timer(0, 10_000)
    bench.ports((0x40, 0x10))
    assert bench.chip.next_deadline() is None


@pytest.mark.parametrize(("access", "value", "count"), [(1, 0x40, 0x0040), (2, 0x40, 0x4000)])
def test_one_byte_access_sets_the_other_byte_to_zero(access: int, value: int, count: int) -> None:
    bench = Bench()
    bench.ports((0x43, access << 4), (0x40, value))
    assert bench.chip.next_deadline() == bench.clock.now + ns(count)
    assert bench.chip.port_read(0x40) == value


@pytest.mark.parametrize(("mode", "counts"), [(0, [1000, 700, 0, 0xFFFF]), (2, [1000, 700, 1000, 999])])
def test_the_count_goes_down_and_reloads_or_wraps(mode: int, counts: list[int]) -> None:
    bench, begin = bench_with_timer(mode, 1000)
    seen = []
    for ticks in (0, 300, 1000, 1001):
        bench.clock.now = begin + ns(ticks)
        seen.append(count_of(bench, 0))
    assert seen == counts


def test_a_square_wave_counts_by_two() -> None:
    bench, begin = bench_with_timer(3, 1000)
    bench.clock.now = begin + ns(300)
    assert count_of(bench, 0) == 400
    bench.clock.now = begin + ns(501)
    assert count_of(bench, 0) == 998


def test_a_latched_count_stands_until_both_bytes_are_read() -> None:
    bench, begin = bench_with_timer(0, 0x1234)
    bench.chip.port_write(0x43, 0x00)
    bench.clock.now = begin + ns(0x234)
    bench.chip.port_write(0x43, 0x00)
    assert [bench.chip.port_read(0x40), bench.chip.port_read(0x40)] == [0x34, 0x12]
    assert [bench.chip.port_read(0x40), bench.chip.port_read(0x40)] == [0x00, 0x10]


def test_read_back_latches_status_then_count_of_the_channels_named() -> None:
    bench, _ = bench_with_timer(3, 0x1234)
    bench.chip.port_write(0x43, 0xC2)
    assert [bench.chip.port_read(0x40) for _ in range(3)] == [0x80 | 0x36, 0x34, 0x12]


def test_status_shows_a_count_that_is_not_loaded_yet() -> None:
    bench = Bench()
    bench.ports((0x43, 0x30), (0x43, 0xE2))
    assert bench.chip.port_read(0x40) == 0x40 | 0x30


def test_channel_2_shows_its_output_at_port_0x61() -> None:
    bench = Bench()
    bench.chip.port_write(0x61, GATE)
    start(bench, 2, 0, 1000)
    begin = bench.clock.now
    assert not output(bench)
    bench.clock.now = begin + ns(1000) - 1
    assert not output(bench)
    bench.clock.now = begin + ns(1000)
    assert output(bench)
    assert bench.chip.next_deadline() is None


def test_a_low_gate_pauses_mode_0() -> None:
    bench = Bench()
    bench.chip.port_write(0x61, GATE)
    start(bench, 2, 0, 1000)
    bench.clock.now += ns(400)
    bench.chip.port_write(0x61, 0)
    bench.clock.now += ns(5000)
    assert count_of(bench, 2) == 600
    bench.chip.port_write(0x61, GATE)
    bench.clock.now += ns(600)
    assert output(bench)


def test_a_count_written_under_a_low_gate_waits_for_the_gate() -> None:
    bench = Bench()
    start(bench, 2, 0, 1000)
    bench.clock.now += ns(5000)
    assert count_of(bench, 2) == 1000
    bench.chip.port_write(0x61, GATE)
    bench.clock.now += ns(1000)
    assert output(bench)


def test_a_rising_gate_starts_a_one_shot_again_and_again() -> None:
    bench = Bench()
    start(bench, 2, 1, 1000)
    assert output(bench)
    for _ in range(2):
        bench.chip.port_write(0x61, GATE)
        assert not output(bench)
        bench.chip.port_write(0x61, 0)
        bench.clock.now += ns(1000)
        assert output(bench)


def test_a_rising_gate_restarts_a_square_wave_which_is_high_while_it_is_low() -> None:
    bench = Bench()
    bench.chip.port_write(0x61, GATE)
    start(bench, 2, 3, 1000)
    bench.clock.now += ns(700)
    assert not output(bench)
    bench.chip.port_write(0x61, 0)
    assert output(bench)
    bench.chip.port_write(0x61, GATE)
    assert count_of(bench, 2) == 1000


@pytest.mark.parametrize(("mode", "count", "high"), [(2, 10, 9), (3, 10, 5), (3, 7, 4)])
def test_the_last_tick_or_the_shorter_half_of_each_period_is_low(mode: int, count: int, high: int) -> None:
    bench = Bench()
    bench.chip.port_write(0x61, GATE)
    start(bench, 2, mode, count)
    begin = bench.clock.now
    levels = []
    for tick in range(2 * count):
        bench.clock.now = begin + ns(tick)
        levels.append(output(bench))
    assert levels == ([True] * high + [False] * (count - high)) * 2


@pytest.mark.parametrize(("mode", "triggered"), [(4, False), (5, True)])
def test_a_strobe_is_low_for_one_tick(mode: int, triggered: bool) -> None:
    bench = Bench()
    bench.chip.port_write(0x61, 0 if triggered else GATE)
    start(bench, 2, mode, 10)
    bench.chip.port_write(0x61, GATE)
    begin = bench.clock.now
    low = []
    for tick in range(20):
        bench.clock.now = begin + ns(tick)
        low += [tick] * (not output(bench))
    assert low == [10]


def test_port_0x61_keeps_its_writable_bits_and_toggles_refresh() -> None:
    bench = Bench()
    bench.chip.port_write(0x61, 0xFF)
    assert bench.chip.port_read(0x61) & 0x0F == 0x0F
    before = bench.chip.port_read(0x61) & 0x10
    bench.clock.now += 15_085
    assert bench.chip.port_read(0x61) & 0x10 != before


def test_the_control_port_is_write_only() -> None:
    bench = Bench()
    assert bench.chip.port_read(0x43) == 0xFF


@given(
    accesses=st.lists(
        st.tuples(
            st.sampled_from([0x40, 0x41, 0x42, 0x43, 0x61]),
            st.none() | st.integers(0, 255),
            st.integers(0, 1 << 30),
        )
    )
)
def test_any_use_of_the_ports_reads_bytes_and_leaves_deadlines_in_the_future(
    accesses: list[tuple[int, int | None, int]],
) -> None:
    bench = Bench()
    for port, value, wait in accesses:
        bench.clock.now += wait
        bench.chip.expire()
        if value is None:
            assert 0 <= bench.chip.port_read(port) <= 0xFF
        else:
            bench.chip.port_write(port, value)
        deadline = bench.chip.next_deadline()
        assert deadline is None or deadline > bench.clock.now

"""The chip as a whole: no guest makes it raise or lose an interrupt, and any thread may drive a line."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from stratovirt.accel.tcg.irqchip import GeneralProtection, IrqChip

from .fakes import Bench, FakeClock, FakeSignals

LEVEL = 1 << 15

OFFSETS = st.integers(0, 0xFFF) | st.integers(0, 0x3F).map(lambda register: register * 16)
WORDS = st.integers(0, 0xFFFF_FFFF) | st.sampled_from([0x1FF, 0x7000, 0x20031, 0x400EC, 0x4E0FE, 0xC4500])
PORTS = st.sampled_from(sorted(IrqChip.CLAIMED_PORTS)) | st.integers(0, 0xFFFF)
BYTES = st.integers(0, 255)
CPUS = st.integers(0, 2)
MSRS = st.sampled_from([0x10, 0x1B, 0x6E0])
QWORDS = st.integers(0, (1 << 64) - 1) | st.sampled_from([0xFEE0_0000, 0xFEE0_0900, 3_000_000_000])

OPERATIONS = st.one_of(
    st.tuples(st.just("lapic_write"), CPUS, OFFSETS, WORDS),
    st.tuples(st.just("lapic_read"), CPUS, OFFSETS),
    st.tuples(st.just("ioapic_write"), st.sampled_from([0, 0x10, 0x40, 0x11, 0xFFF]), WORDS | BYTES),
    st.tuples(st.just("ioapic_read"), st.sampled_from([0, 0x10, 0x40, 0x11, 0xFFF])),
    st.tuples(st.just("port_write"), PORTS, BYTES),
    st.tuples(st.just("port_read"), PORTS),
    st.tuples(st.just("msr_write"), CPUS, MSRS, QWORDS),
    st.tuples(st.just("msr_read"), CPUS, MSRS),
    st.tuples(st.just("set_cr8"), CPUS, st.integers(0, 15)),
    st.tuples(st.just("set_line"), st.integers(0, 23), st.booleans()),
    st.tuples(st.just("acknowledge"), CPUS),
    st.tuples(st.just("wait"), st.integers(0, 1 << 32)),
)


def carry_out(bench: Bench, operation: tuple[str, int, int, int]) -> None:
    name, *arguments = operation
    if name == "wait":
        bench.clock.now += arguments[0]
        bench.chip.expire()
        return
    try:
        getattr(bench.chip, name)(*arguments)
    except GeneralProtection:
        assert name == "msr_write"


@given(operations=st.lists(OPERATIONS, max_size=60))
def test_no_guest_access_raises_but_for_msrs_and_pending_agrees_with_acknowledge(
    operations: list[tuple[str, int, int, int]],
) -> None:
    bench = Bench(vcpus=3)
    for operation in operations:
        carry_out(bench, operation)
    for cpu in range(3):
        pending = bench.chip.pending(cpu)
        assert (bench.chip.acknowledge(cpu) >= 0) == pending


@given(operations=st.lists(OPERATIONS, max_size=60))
def test_whenever_pending_turns_true_the_cpu_is_told(operations: list[tuple[str, int, int, int]]) -> None:
    bench = Bench(vcpus=3)
    for operation in operations:
        before = [bench.chip.pending(cpu) for cpu in range(3)]
        bench.signals.interrupted.clear()
        carry_out(bench, operation)
        turned = {cpu for cpu in range(3) if bench.chip.pending(cpu) and not before[cpu]}
        if operation[0] != "acknowledge":
            assert turned <= set(bench.signals.interrupted)


@given(operations=st.lists(OPERATIONS, max_size=60))
def test_whenever_the_next_deadline_moves_forward_the_engine_is_told(
    operations: list[tuple[str, int, int, int]],
) -> None:
    bench = Bench(vcpus=3)
    for operation in operations:
        before = bench.chip.next_deadline()
        bench.signals.deadline_changes = 0
        carry_out(bench, operation)
        after = bench.chip.next_deadline()
        if after is not None and (before is None or after < before):
            assert bench.signals.deadline_changes


@given(operations=st.lists(OPERATIONS, max_size=60))
def test_reset_leaves_nothing_pending_and_no_timer(operations: list[tuple[str, int, int, int]]) -> None:
    bench = Bench(vcpus=3)
    for operation in operations:
        carry_out(bench, operation)
    bench.chip.reset()
    assert not any(bench.chip.pending(cpu) for cpu in range(3))
    assert bench.chip.next_deadline() is None


def test_an_unclaimed_port_reads_all_ones_and_drops_writes() -> None:
    bench = Bench()
    bench.chip.port_write(0x22, 0x12)
    assert bench.chip.port_read(0x22) == 0xFF


def test_a_line_keeps_its_level_over_a_reset() -> None:
    bench = Bench()
    bench.chip.line(16).set_level(True)
    bench.chip.reset()
    bench.write(0xF0, 0x1FF)
    bench.redirect(16, LEVEL | 0x41)
    assert bench.chip.acknowledge(0) == 0x41


class CuriousSignals(FakeSignals):
    """An engine that looks at the chip, as far as it may, while it is being told."""

    def __init__(self) -> None:
        super().__init__()
        self.chip: IrqChip | None = None
        self.seen: list[bool] = []

    def interrupt(self, cpu: int) -> None:
        assert self.chip is not None
        self.chip.next_deadline()
        self.seen.append(self.chip.pending(cpu))


def test_an_engine_may_look_at_pending_from_within_a_signal() -> None:
    signals = CuriousSignals()
    signals.chip = IrqChip([0], FakeClock(), signals)
    signals.chip.lapic_write(0, 0xF0, 0x1FF)
    signals.chip.lapic_write(0, 0x300, 1 << 18 | 0x41)
    assert signals.seen == [True]


def test_a_level_raised_by_a_device_thread_is_served_exactly_as_often_as_it_is_raised() -> None:
    bench = Bench()
    bench.redirect(16, LEVEL | 0x41)
    line = bench.chip.line(16)
    rounds = 500
    may_raise, raised = threading.Semaphore(1), threading.Semaphore(0)

    def device() -> None:
        for _ in range(rounds):
            if not may_raise.acquire(timeout=10):
                return
            line.set_level(True)
            raised.release()

    thread = threading.Thread(target=device)
    thread.start()
    served = 0
    while served < rounds and raised.acquire(timeout=10):
        assert bench.chip.acknowledge(0) == 0x41
        served += 1
        line.set_level(False)
        may_raise.release()  # the line may rise again before the end of interrupt, or after it
        bench.end_of_interrupt()
    thread.join(timeout=10)
    assert served == rounds
    assert not bench.chip.pending(0)

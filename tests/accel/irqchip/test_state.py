"""Interrupt controllers and timers that were saved go on in another chip as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.accel.tcg.irqchip import IrqChip
from stratovirt.accel.tcg.irqchip.contract import GeneralProtection
from tests.accel.irqchip.fakes import Bench

Step = Callable[[Bench], object]

OFFSETS = st.integers(0, 0x3F).map(lambda number: 16 * number)
VALUES = st.integers(0, 0xFFFF_FFFF) | st.integers(0, 0x1FF)
CPUS = st.integers(0, 1)
PORTS = st.sampled_from(sorted(IrqChip.CLAIMED_PORTS))


def advance(bench: Bench, nanoseconds: int) -> None:
    bench.clock.now += nanoseconds
    bench.chip.expire()


def write_msr(bench: Bench, index: int, value: int) -> None:
    try:
        bench.chip.msr_write(0, index, value)
    except GeneralProtection:
        return


STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda cpu, at, value: lambda b: b.write(at, value, cpu), CPUS, OFFSETS, VALUES),
    st.builds(
        lambda pin, value: lambda b: b.redirect(pin, value), st.integers(0, 23), st.integers(0, 2**64 - 1)
    ),
    st.builds(lambda port, value: lambda b: b.chip.port_write(port, value), PORTS, st.integers(0, 255)),
    st.builds(lambda port: lambda b: b.chip.port_read(port), PORTS),
    st.builds(lambda pin, high: lambda b: b.chip.set_line(pin, high), st.integers(0, 23), st.booleans()),
    st.builds(lambda cpu: lambda b: b.chip.acknowledge(cpu) if b.chip.pending(cpu) else None, CPUS),
    st.builds(lambda ns: lambda b: advance(b, ns), st.integers(0, 10**9)),
    st.builds(lambda value: lambda b: write_msr(b, 0x6E0, value), st.integers(0, 2**40)),
    st.builds(lambda value: lambda b: write_msr(b, 0x1B, value), st.sampled_from([0xFEE00800, 0xFEE00000])),
)


def restored(bench: Bench) -> Bench:
    """A bench of the same time, with the other's state in its chip."""
    fresh = Bench(vcpus=2)
    fresh.clock.now = bench.clock.now
    fresh.chip.load(json.loads(json.dumps(bench.chip.save())))
    return fresh


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=25), st.lists(STEPS, max_size=10))
def test_a_restored_chip_goes_on_like_the_one_that_was_saved(before: list[Step], after: list[Step]) -> None:
    bench = Bench(vcpus=2)
    for step in before:
        step(bench)
    fresh = restored(bench)
    assert fresh.chip.save() == bench.chip.save()
    for step in after:
        assert step(fresh) == step(bench)
    assert fresh.chip.save() == bench.chip.save()
    assert [fresh.chip.pending(cpu) for cpu in (0, 1)] == [bench.chip.pending(cpu) for cpu in (0, 1)]
    assert fresh.chip.next_deadline() == bench.chip.next_deadline()


def test_a_cpu_is_told_of_what_was_deliverable() -> None:
    bench = Bench(vcpus=2)
    bench.redirect(9, 0x55)
    bench.pulse(9)
    assert restored(bench).signals.interrupted == [0]

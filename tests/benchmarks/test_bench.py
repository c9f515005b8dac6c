"""What `make bench` says of figures, without measuring any: timings assert nothing here."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from benchmarks.__main__ import discover, main
from benchmarks.exits import MEASURED, TYPED, costs
from benchmarks.harness import (
    OURS,
    Failed,
    Figure,
    Runs,
    console,
    interleave,
    join,
    ratio,
    read_until,
    running,
)
from benchmarks.memory import CODE, FILES, HEAPS, MEMORY_MIB, TOTAL, Area, areas, itemised
from benchmarks.report import Outcome, table

from stratovirt.errors import ConfigError
from tests.guests import bare_kernel, cache_directory
from tests.guests.bare import skip_without

SPEED = Figure("speed", "MB/s", target=1.0, higher=True)
DELAY = Figure("delay", "ms", target=0.5)


def runs(**samples: float) -> Runs:
    return Runs({name: [value] for name, value in samples.items()})


def shown(figure: Figure, **sides: Runs) -> str:
    return "\n".join(table([Outcome("some", [figure], sides)]))


def test_every_benchmark_has_figures_of_different_names() -> None:
    known = discover()

    assert {"boot", "qmp", "clients"} <= set(known)
    for name, benchmark in known.items():
        names = [figure.name for figure in benchmark.FIGURES]
        assert len(set(names)) == len(names) > 0, name


def test_sides_take_turns() -> None:
    order = []

    def side(name: str) -> Mapping[str, float]:
        order.append(name)
        return {"delay": 1.0}

    interleave({"a": lambda: side("a"), "b": lambda: side("b")}, runs=2)

    assert order == ["a", "b", "a", "b"]


def test_a_run_that_fails_is_counted_and_shown_beside_the_others() -> None:
    answers: Iterator[float] = iter((1.0, 3.0))

    def hangs_once() -> Mapping[str, float]:
        try:
            return {"delay": next(answers)}
        except StopIteration:
            raise Failed("hung for 60 s: Calibrating") from None

    results = interleave({"ours": lambda: {"delay": 1.0}, "qemu": hangs_once}, runs=3)

    text = shown(DELAY, **results)
    assert "qemu: 1 failed, the last: hung for 60 s: Calibrating" in text
    assert "2 ms (1 – 3)" in text


@pytest.mark.parametrize(("figure", "quotient"), [(DELAY, 0.5), (SPEED, 0.25)])
def test_the_ratio_is_to_the_best_of_the_others(figure: Figure, quotient: float) -> None:
    results = {"ours": runs(delay=10, speed=10), "b": runs(delay=40, speed=40), "c": runs(delay=20, speed=20)}

    assert ratio(figure, results) == quotient


@pytest.mark.parametrize("missing", ["ours", "qemu"])
def test_a_side_without_a_figure_gives_no_ratio(missing: str) -> None:
    results = {side: Runs() if side == missing else runs(delay=1) for side in ("ours", "qemu")}

    assert ratio(DELAY, results) is None
    assert "–  ≤ 0.5" in shown(DELAY, **results)


def test_targets_are_met_or_missed_in_the_direction_of_the_figure() -> None:
    assert "≥ 1 met" in shown(SPEED, ours=runs(speed=3), qemu=runs(speed=2))
    assert "≥ 1 MISSED" in shown(SPEED, ours=runs(speed=1), qemu=runs(speed=2))
    assert "≤ 0.5 met" in shown(DELAY, ours=runs(delay=1), qemu=runs(delay=2))
    assert "≤ 0.5 MISSED" in shown(DELAY, ours=runs(delay=2), qemu=runs(delay=2))


def test_an_absolute_target_is_held_against_our_own_figure() -> None:
    figure = Figure("memory", "MiB", target=10, absolute=True)

    assert "≤ 10 MiB met" in shown(figure, ours=runs(memory=9), qemu=runs(memory=1))


def test_figures_of_several_measurements_join() -> None:
    joined = join({"ours": runs(delay=1)}, {"ours": Runs({"speed": [2.0]}, ["why"])})

    assert joined == {"ours": Runs({"delay": [1.0], "speed": [2.0]}, ["why"])}


def test_a_machine_that_hangs_or_ends_is_a_failed_run_that_quotes_it() -> None:
    with pytest.raises(Failed, match="ended before UP: Kernel panic"):
        console([sys.executable, "-c", "print('Kernel panic')"], b"UP", timeout=60)
    with running([sys.executable, "-uc", "print('Calibrating'); input()"]) as process:
        read_until(process, b"Calibrating\n", timeout=60)
        with pytest.raises(Failed, match=r"hung for 0\.1 s: no output"):
            read_until(process, b"UP", timeout=0.1)


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_the_guest_that_measures_exits_gives_every_figure_of_its_accelerator(accelerator: str) -> None:
    skip_without(accelerator)
    try:
        kernel = bare_kernel("exits")
    except ConfigError as error:
        pytest.skip(str(error))

    figures = costs(OURS, accelerator, kernel)

    assert set(figures) == {f"{name}, {accelerator}" for name in (*MEASURED.values(), TYPED)}
    assert all(microseconds > 0 for microseconds in figures.values())


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bot"])
    assert "no benchmark bot: there are" in capsys.readouterr().err


def area(access: str, name: str = "", size: float = 16, private: float = 0) -> Area:
    sizes = {"Size": size, "Private_Clean": private / 4, "Private_Dirty": private * 3 / 4, "Pss": private + 1}
    return Area(access, name, sizes)


def test_memory_is_itemised_without_the_guests_ram_and_files() -> None:
    ram, code = area("rw-p", size=MEMORY_MIB, private=99), area("rwxp", private=32)
    others = [area("r-xp", "/usr/lib/libpython.so", private=4), area("rw-p", "[heap]", private=8)]
    kernel = area("r--p", str(cache_directory().resolve() / "vmlinux"), private=50)

    figures = itemised([ram, code, kernel, *others])

    assert figures | {TOTAL: 12, FILES: 4, HEAPS: 8, CODE: 32} == figures
    with pytest.raises(Failed, match="0 mappings"):
        itemised([code])


def test_the_areas_of_a_process_add_up_to_what_the_kernel_says() -> None:
    with running([sys.executable, "-c", "print('UP', flush=True); input()"]) as process:
        read_until(process, b"UP", timeout=60)
        private = sum(each.private for each in areas(process.pid))
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()

    kib = sum(int(number) for number in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", rollup, re.MULTILINE))
    assert private == kib / 1024 > 1

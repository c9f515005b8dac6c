"""Figures of any kind, measured side by side, printed and kept alike.

A benchmark gives a function per side that makes one run and returns its figures by name; the harness calls
the sides in turns (A B A B …), takes medians, prints one table with ratios and writes JSON. No run is
dropped: one that raises ``Failed`` is counted and shown. A whole benchmark is::

    FIGURES = (Figure("sequential read", "MB/s", target=1.0, higher=True), Figure("4 KiB read", "us"))

    def run(side: str) -> Mapping[str, float]:
        output = console(vmm(side, "-m", "256", "-drive", …), b"DONE", timeout=60)
        return {"sequential read": …, "4 KiB read": …}

    report("block", FIGURES, interleave({side: partial(run, side) for side in SIDES}, runs=9))
"""

import json
import math
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.common import READ_SIZE, end, environment, host, last_line

RESULTS = Path("build/benchmarks")
OURS, QEMU = "stratovirt", "qemu"
SIDES = (OURS, QEMU)
RUNS, QUICK_RUNS = 9, 3

Run = Callable[[], Mapping[str, float]]


class Failed(Exception):
    """A run has no figure; the message says why."""


@dataclass(frozen=True)
class Figure:
    """What is measured.

    :ivar unit: as printed: ``ms``, ``MiB``, ``MB/s``.
    :ivar target: what the ratio to QEMU is to be; at most, or at least if ``higher`` is better.
    """

    name: str
    unit: str
    target: float | None = None
    higher: bool = False


@dataclass
class Runs:
    """What the runs of one side gave: their figures by name, and why others gave none."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """Of the runs that have this figure."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None


def interleave(sides: Mapping[str, Run], runs: int) -> dict[str, Runs]:
    """Call every side ``runs`` times, in turns."""
    results = {name: Runs() for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            _one(run, results[name])
    return results


def _one(run: Run, into: Runs) -> None:
    try:
        figures = run()
    except Failed as failure:
        into.failures.append(str(failure))
        return
    for name, value in figures.items():
        into.samples.setdefault(name, []).append(value)


def ratio(name: str, results: Mapping[str, Runs]) -> float | None:
    """The first side's median over the second's, which is QEMU's; none if one of them is missing."""
    ours, other = [runs.median(name) for runs in results.values()][:2]
    return ours / other if ours is not None and other else None


def report(
    benchmark: str,
    figures: Sequence[Figure],
    results: Mapping[str, Runs],
    conditions: Mapping[str, object] | None = None,
) -> None:
    """Print the table of a benchmark and write ``build/benchmarks/BENCHMARK.json``."""
    print("\n".join(table(benchmark, figures, results)), flush=True)
    rows = [asdict(figure) | {"ratio": ratio(figure.name, results)} for figure in figures]
    runs = {side: asdict(each) for side, each in results.items()}
    document = {**host(), **(conditions or {}), "figures": rows, "runs": runs}
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (RESULTS / f"{benchmark}.json").write_text(text + "\n")


def table(benchmark: str, figures: Sequence[Figure], results: Mapping[str, Runs]) -> list[str]:
    """The lines of the table: medians (lowest – highest) of each side, the ratio and its target."""
    lines = ["", f"{benchmark:<36}" + "".join(f"{side:>32}" for side in results) + "    ratio"]
    lines += [_row(figure, results) for figure in figures]
    for side, runs in results.items():
        if runs.failures:
            lines.append(f"  {side}: {len(runs.failures)} runs failed, the last: {runs.failures[-1]}")
    return lines


def _row(figure: Figure, results: Mapping[str, Runs]) -> str:
    cells = "".join(f"{_cell(figure, runs):>32}" for runs in results.values())
    quotient = ratio(figure.name, results)
    shown = "" if quotient is None else f"{quotient:9.2f}{_verdict(figure, quotient)}"
    return f"  {figure.name:<34}{cells}{shown}"


def _cell(figure: Figure, runs: Runs) -> str:
    samples = runs.samples.get(figure.name)
    if not samples:
        return "–"
    middle, low, high = statistics.median(samples), min(samples), max(samples)
    spread = f" ({low:.3g} – {high:.3g})" if len(samples) > 1 else ""
    return f"{middle:.4g} {figure.unit}{spread}"


def _verdict(figure: Figure, quotient: float) -> str:
    if figure.target is None:
        return ""
    met = quotient >= figure.target if figure.higher else quotient <= figure.target
    return f"  {'≥' if figure.higher else '≤'} {figure.target:g} {'met' if met else 'MISSED'}"


def vmm(side: str, *arguments: str) -> list[str]:
    """The command of one side's machine on its software CPU, with what both sides understand."""
    return [*(_OURS if side == OURS else _QEMU), *arguments]


# Everything that QEMU can leave out to start faster, as far as Linux still finds its console.
_QEMU = (
    *("qemu-system-x86_64", "-M", "microvm,acpi=on,x-option-roms=off", "-accel", "tcg"),
    *("-nodefaults", "-no-user-config", "-display", "none"),
)
_OURS = (sys.executable, "-m", "stratovirt", "-machine", "microvm,accel=tcg")


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The machine, with pipes for its console; ended on the way out.

    Standard input stays open and silent: at its end, a machine whose console is stdio may leave.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        try:
            yield process
        finally:
            end(process)


def console(command: Sequence[str], marker: bytes, timeout: float) -> str:
    """All that the machine printed until ``marker`` came.

    :raise Failed: it ended before, or took longer than ``timeout`` seconds.
    """
    with running(command) as process:
        return read_until(process, marker, timeout)


def read_until(process: subprocess.Popen[bytes], marker: bytes, timeout: float) -> str:
    """What ``process`` prints from now until ``marker``.

    :raise Failed: it ended before, or took longer than ``timeout`` seconds.
    """
    assert process.stdout is not None
    output = bytearray()
    deadline = time.monotonic() + timeout
    while marker not in output[-len(marker) - READ_SIZE :]:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise Failed(f"no {marker!r} in {timeout:g} s: {last_line(output)}")
        data = os.read(process.stdout.fileno(), READ_SIZE)
        if not data:
            raise Failed(f"ended before {marker!r}: {last_line(output)}")
        output += data
    return output.decode(errors="replace")


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that ``percent`` of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

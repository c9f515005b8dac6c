"""What comes of the figures: a table for eyes, JSON for programs, a plot for the documentation."""

import json
import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, Runs, ratio

GREEN, RED, GREY = "#2a7f3f", "#c0392b", "#606060"
BAR_INCHES = 0.28  # height of a figure in the plot
NAME_WIDTH, CELL_WIDTH = 40, 30


@dataclass(frozen=True)
class Outcome:
    """What one benchmark has found.

    :ivar error: why it has found nothing.
    """

    name: str
    figures: Sequence[Figure]
    results: Mapping[str, Runs]
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Every figure has a ratio."""
        return all(ratio(figure, self.results) is not None for figure in self.figures)


def write(directory: Path, outcomes: Sequence[Outcome], conditions: Mapping[str, object]) -> None:
    """``figures.json`` with all samples, ``figures.svg``, and a ``README.md`` that shows table and plot."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {**conditions, "benchmarks": {outcome.name: _plain(outcome) for outcome in outcomes}}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (directory / "figures.json").write_text(text + "\n")
    (directory / "README.md").write_text("\n".join(_page(outcomes, conditions)) + "\n")
    plot(directory / "figures.svg", outcomes)


def host() -> dict[str, object]:
    """What a figure means nothing without: processor, its clock and the load at the start."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else "unknown",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of the table: medians (lowest – highest) of each side, ratio, target; failed runs below."""
    return [line for outcome in outcomes for line in _rows(outcome)]


def _rows(outcome: Outcome) -> Iterator[str]:
    sides = "".join(f"{side:>{CELL_WIDTH}}" for side in outcome.results)
    yield ""
    yield f"{outcome.name:<{NAME_WIDTH}}{sides}   ratio"
    for figure in outcome.figures:
        cells = "".join(f"{_cell(figure, runs):>{CELL_WIDTH}}" for runs in outcome.results.values())
        quotient = ratio(figure, outcome.results)
        shown = "       –" if quotient is None else f"{quotient:8.2f}"
        yield f"  {figure.name:<{NAME_WIDTH - 2}}{cells}{shown}  {_verdict(figure, outcome.results)}".rstrip()
    yield from (f"  {trouble}" for trouble in _troubles(outcome))


def _troubles(outcome: Outcome) -> Iterator[str]:
    if outcome.error:
        yield f"not measured: {outcome.error}"
    for side, runs in outcome.results.items():
        if runs.failures:
            yield f"{side}: {len(runs.failures)} failed, the last: {runs.failures[-1]}"


def _cell(figure: Figure, runs: Runs) -> str:
    samples = runs.samples.get(figure.name)
    if not samples:
        return "–"
    middle, low, high = statistics.median(samples), min(samples), max(samples)
    spread = f" ({low:.3g} – {high:.3g})" if len(samples) > 1 else ""
    return f"{middle:.4g} {figure.unit}{spread}"


def _verdict(figure: Figure, results: Mapping[str, Runs]) -> str:
    if figure.target is None:
        return ""
    sign, unit = "≥" if figure.higher else "≤", f" {figure.unit}" if figure.absolute else ""
    met = _met(figure, results)
    word = {True: " met", False: " MISSED", None: ""}[met]
    return f"{sign} {figure.target:g}{unit}{word}"


def _met(figure: Figure, results: Mapping[str, Runs]) -> bool | None:
    """None where there is no target, or nothing to hold against it."""
    ours = next((runs.median(figure.name) for runs in results.values()), None)
    value = ours if figure.absolute else ratio(figure, results)
    if value is None or figure.target is None:
        return None
    return value >= figure.target if figure.higher else value <= figure.target


def _plain(outcome: Outcome) -> dict[str, object]:
    rows = [asdict(figure) | {"ratio": ratio(figure, outcome.results)} for figure in outcome.figures]
    runs = {side: asdict(each) for side, each in outcome.results.items()}
    return {"error": outcome.error, "figures": rows, "runs": runs}


def _page(outcomes: Sequence[Outcome], conditions: Mapping[str, object]) -> Iterator[str]:
    yield "# Figures beside QEMU"
    yield ""
    yield "Written by `make bench` ([how](../../benchmarks/README.md)); all samples: [JSON](figures.json)."
    yield ", ".join(f"{name}: {value}" for name, value in conditions.items()) + "."
    yield ""
    yield "![ratios to QEMU](figures.svg)"
    yield ""
    yield "| figure | ours | the others' best | ratio | target |"
    yield "|---|---|---|---|---|"
    for outcome in outcomes:
        yield from (_page_row(outcome, figure) for figure in outcome.figures)
    yield ""
    yield from (f"- {outcome.name}: {trouble}" for outcome in outcomes for trouble in _troubles(outcome))


def _page_row(outcome: Outcome, figure: Figure) -> str:
    ours, *others = list(outcome.results.values()) or [Runs()]
    known = [runs for runs in others if figure.name in runs.samples]
    other = (max if figure.higher else min)(known, key=lambda runs: runs.median(figure.name), default=Runs())
    quotient = ratio(figure, outcome.results)
    shown = "–" if quotient is None else f"{quotient:.2f}"
    cells = (_cell(figure, ours), _cell(figure, other), shown, _verdict(figure, outcome.results))
    return f"| {outcome.name}: {figure.name} | " + " | ".join(cells) + " |"


def plot(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A dot per figure at its ratio, a whisker for our lowest and highest, a tick at the target."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {
        "svg.hashsalt": "figures",
        "svg.fonttype": "none",
    }  # small, and the same for the same figures
    from matplotlib import pyplot

    shown = [
        (outcome, figure)
        for outcome in outcomes
        for figure in outcome.figures
        if ratio(figure, outcome.results) is not None
    ]
    image, axes = pyplot.subplots(figsize=(9, 1.2 + BAR_INCHES * len(shown)), layout="constrained")
    for place, (outcome, figure) in enumerate(shown):
        _draw(axes, place, figure, outcome.results)
    axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_yticks(range(len(shown)), [f"{outcome.name}: {figure.name}" for outcome, figure in shown])
    axes.invert_yaxis()
    axes.set_xlabel("times QEMU, left is better (of throughput the inverse); | target")
    axes.grid(axis="x", alpha=0.3)
    image.savefig(path, metadata={"Date": None})
    pyplot.close(image)


def _draw(axes: Any, place: int, figure: Figure, results: Mapping[str, Runs]) -> None:
    quotient = ratio(figure, results)
    ours = next(iter(results.values()))
    samples, middle = ours.samples[figure.name], ours.median(figure.name)
    assert quotient is not None
    assert middle is not None
    color = {True: GREEN, False: RED, None: GREY}[_met(figure, results)]
    power = -1 if figure.higher else 1
    spread = [(quotient * sample / middle) ** power for sample in (min(samples), max(samples)) if middle]
    axes.plot(spread, [place] * len(spread), color=color, linewidth=1.5, alpha=0.5)
    axes.plot([quotient**power], [place], "o", color=color, markersize=5)
    if figure.target is not None and not figure.absolute:
        axes.plot([figure.target**power], [place], "|", color="black", markersize=9)

"""How the benchmarks run and time: what a module in here is made of.

The law: the sides alternate (A B A B …), so a slow minute of the machine slows them all; and no run is
dropped: one that fails, or does not get there in time, is counted and shown beside the median of the others.
"""

import math
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

OURS, QEMU = "stratovirt", "qemu"
SIDES = (OURS, QEMU)
RUNS, QUICK_RUNS = 9, 3

READ_SIZE = 1 << 16
ZYGOTE_SECONDS, POLL_SECONDS = 30, 0.01
EXIT_SECONDS = 10  # that a machine is given to go after SIGTERM
TAIL = 400  # characters of a failed run's output that are looked at

Run = Callable[[], Mapping[str, float]]
"""Makes one run of one side and returns its figures by name; raises Failed if there are none."""


class Failed(Exception):
    """A run has no figure; the message says why."""


class Effort(NamedTuple):
    """How much time a benchmark may take.

    :ivar runs: of each side.
    :ivar quick: the load of each run is to be short.
    """

    runs: int = RUNS
    quick: bool = False


@dataclass(frozen=True)
class Figure:
    """What is measured.

    :ivar unit: as printed: ``ms``, ``MiB``, ``MB/s``.
    :ivar target: what the ratio is to be; at most, or at least if ``higher`` is better.
    :ivar absolute: the target is for our own figure, whatever the other's.
    """

    name: str
    unit: str
    target: float | None = None
    higher: bool = False
    absolute: bool = False


@dataclass
class Runs:
    """What the runs of one side gave: their figures by name, and why others gave none."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """Of the runs that have this figure."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None


class Benchmark(Protocol):
    """What a module in here has if it is a benchmark; its name is the module's."""

    FIGURES: Sequence[Figure]

    @staticmethod
    def measure(effort: Effort) -> Mapping[str, Runs]:
        """The runs of each side, ours first."""


def interleave(sides: Mapping[str, Run], runs: int) -> dict[str, Runs]:
    """Call every side ``runs`` times, in turns; each prints a dot on stderr, or an F if it failed."""
    results = {name: Runs() for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            print("." if _succeeds(run, results[name]) else "F", end="", file=sys.stderr, flush=True)
    return results


def _succeeds(run: Run, into: Runs) -> bool:
    try:
        figures = run()
    except Failed as failure:
        into.failures.append(str(failure))
        return False
    for name, value in figures.items():
        into.samples.setdefault(name, []).append(value)
    return True


def join(*parts: Mapping[str, Runs]) -> dict[str, Runs]:
    """One result of several that measured different figures."""
    joined: dict[str, Runs] = {}
    for part in parts:
        for side, runs in part.items():
            into = joined.setdefault(side, Runs())
            into.samples |= runs.samples
            into.failures += runs.failures
    return joined


def ratio(figure: Figure, results: Mapping[str, Runs]) -> float | None:
    """The first side's median over the best of the others; none if one is missing."""
    ours, *others = [runs.median(figure.name) for runs in results.values()] or [None]
    best = (max if figure.higher else min)((each for each in others if each is not None), default=None)
    return ours / best if ours is not None and best else None


def vmm(
    side: str, *arguments: str, acpi: bool = True, accel: str = "tcg", zygote: Path | None = None
) -> list[str]:
    """The command of one side's machine, on its software CPU by default, with what both sides understand.

    :param acpi: how the machine is described to the guest: by ACPI, or by an MP table and the command line.
    :param zygote: the socket of one that our machine is to start from.
    """
    switch = "on" if acpi else "off"
    if side == OURS:
        via = ["--via", str(zygote)] if zygote is not None else []
        program = [sys.executable, "-m", "stratovirt", *via]
        machine = [*program, "-machine", f"microvm,accel={accel},acpi={switch}"]
    else:  # everything that QEMU can leave out to start faster, as far as Linux still finds its console
        machine = [
            *("qemu-system-x86_64", "-M", f"microvm,acpi={switch},x-option-roms=off", "-accel", accel),
            *("-nodefaults", "-no-user-config", "-display", "none"),
        ]
    return [*machine, *arguments]


@contextmanager
def zygote() -> Iterator[Path]:
    """The socket of a zygote that is ready."""
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        path = Path(directory, "zygote")
        with running([sys.executable, "-m", "stratovirt", "--zygote", str(path)]):
            _wait_for(path)
            command = [sys.executable, "-m", "stratovirt", "--via", str(path), "-version"]
            subprocess.run(command, check=True, capture_output=True)
            yield path


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + ZYGOTE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise Failed(f"no zygote within {ZYGOTE_SECONDS} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The machine, with pipes for its console; ended on the way out.

    Standard input stays open and silent: at its end, a machine whose console is stdio may leave.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment()
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def _environment() -> dict[str, str]:
    """Ours, but Python may keep bytecode: an installed package has it, a working tree after its first run."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for one that does not go."""
    process.terminate()
    try:
        process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


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
            raise Failed(f"hung for {timeout:g} s: {_last_line(output)}")
        data = os.read(process.stdout.fileno(), READ_SIZE)
        if not data:
            raise Failed(f"ended before {marker.decode()}: {_last_line(output)}")
        output += data
    return output.decode(errors="replace")


def _last_line(output: bytes | bytearray) -> str:
    lines = output[-TAIL:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that ``percent`` of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

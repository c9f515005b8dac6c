"""How the benchmarks time, interleave and report.

The law: the sides alternate (A B A B …), so a slow minute of the machine slows them all; and no run is
dropped: one that fails, or does not get there in time, is counted and shown beside the median of the others.
"""

import json
import os
import re
import select
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

READ_SIZE = 1 << 16
EXIT_TIMEOUT = 10  # seconds that a machine is given to go after SIGTERM
TAIL = 400  # characters of a failed run's output that are kept


@dataclass(frozen=True)
class Side:
    """One of the things compared: a name for the table and what to execute."""

    name: str
    command: Sequence[str]


@dataclass
class Result:
    """What the runs of a side gave: seconds of each, or why there are none."""

    name: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds; infinite when no run succeeded."""
        return statistics.median(self.seconds) if self.seconds else float("inf")

    @property
    def row(self) -> str:
        """A line of the table."""
        if not self.seconds:
            return f"{self.name:<24}        no run succeeded: {self.failures[-1] if self.failures else ''}"
        spread = f"{min(self.seconds):6.2f} – {max(self.seconds):.2f}"
        total = len(self.seconds) + len(self.failures)
        failed = (
            f"   {len(self.failures)} of {total} runs failed: {self.failures[-1]}" if self.failures else ""
        )
        return f"{self.name:<24}{self.median:8.2f} s {spread}   n={len(self.seconds)}{failed}"


def interleave(sides: Sequence[Side], runs: int, marker: bytes, timeout: float) -> list[Result]:
    """Run every side ``runs`` times in turns, timing exec to ``marker`` on its standard output."""
    results = [Result(side.name) for side in sides]
    for _ in range(runs):
        for side, result in zip(sides, results, strict=True):
            outcome = time_until(marker, side.command, timeout)
            if isinstance(outcome, float):
                result.seconds.append(round(outcome, 3))
            else:
                result.failures.append(outcome)
    return results


def environment() -> dict[str, str]:
    """Ours, but Python may keep bytecode: an installed package has it, a working tree after its first run."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def time_until(marker: bytes, command: Sequence[str], timeout: float) -> float | str:
    """Seconds from exec of ``command`` until it prints ``marker``, or what went wrong.

    Standard input stays open and silent: at its end, a machine whose console is stdio may leave.
    """
    start = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        assert process.stdout is not None
        try:
            return _watch(process.stdout.fileno(), marker, start, timeout)
        finally:
            end(process)


def _watch(fd: int, marker: bytes, start: float, timeout: float) -> float | str:
    output = b""
    while (left := start + timeout - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        data = os.read(fd, READ_SIZE)
        if not data:
            return f"ended: {last_line(output)}"
        output += data
        if marker in output:
            return time.monotonic() - start
    return f"hung for {timeout:.0f} s: {last_line(output)}"


def last_line(output: bytes | bytearray) -> str:
    """The last that a run said, for the table."""
    lines = output[-TAIL:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for one that does not go."""
    process.terminate()
    try:
        process.wait(EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()


def write_json(path: Path, document: dict[str, object], results: Sequence[Result]) -> None:
    """Keep the single figures, for comparing one day's runs with another's."""
    rows = [asdict(result) | {"median": result.median if result.seconds else None} for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document | {"results": rows}, indent=2, ensure_ascii=False) + "\n")


def host() -> dict[str, object]:
    """What a figure means nothing without: processor, its clock and the load at the start."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {"cpu": model[1] if model else "unknown", "cpus": os.cpu_count(), "load": os.getloadavg()[0]}

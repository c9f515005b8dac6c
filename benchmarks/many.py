"""Twenty machines at once: how fast they start, and what they hold together when all have booted.

All are started at the same moment, each with a stock Debian kernel, as many as the host's processors may be
busy with for seconds; the clock runs until the last guest is at its shell. Memory is the sum of the
proportional sizes (PSS), guest RAM and translated code included: what the host has less.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.guests import CLOUD, UP, boot_options, fastest_form, kernel
from benchmarks.harness import SIDES, Effort, Figure, Runs, interleave, read_until, running, vmm
from benchmarks.memory import areas

MACHINES, QUICK_MACHINES = 20, 4
MEMORY_MIB = 128
TIMEOUT = 300
RATE = Figure("started and booted", "machines/s", higher=True)
SUM = Figure("memory of all together", "MiB")
FIGURES = (RATE, SUM)


def measure(effort: Effort) -> Mapping[str, Runs]:
    """A quick run starts fewer, and once."""
    image = kernel(CLOUD, effort)
    machines, runs = (QUICK_MACHINES, 1) if effort.quick else (MACHINES, effort.runs)
    return interleave({side: partial(_run, side, image, machines) for side in SIDES}, runs)


def _run(side: str, image: Path, machines: int) -> Mapping[str, float]:
    options = boot_options(image, fastest_form(side, image), "shell", "quiet", memory=MEMORY_MIB)
    command = vmm(side, *options)
    with ExitStack() as stack:
        start = time.monotonic()
        processes = [stack.enter_context(running(command)) for _ in range(machines)]
        for process in processes:
            read_until(process, UP, TIMEOUT)
        seconds = time.monotonic() - start
        total = sum(area.sizes["Pss"] for process in processes for area in areas(process.pid))
    return {RATE.name: machines / seconds, SUM.name: total}

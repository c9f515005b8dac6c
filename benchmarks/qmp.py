"""QMP round trips beside QEMU: ``query-status`` p50 and p99 with 1, 16 and 128 clients.

Open loop: each client asks 50 times a second, half of what flow control allows, and latency counts from when
a request was due. QEMU serves one client per socket, so it gets a socket for each; ours serve all on one. The
guest is the stock Debian kernel, idle at its shell.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.harness import QEMU, QUICK_RUNS, RUNS, SIDES, Figure, Runs, interleave, percentile, report
from benchmarks.idle import Idle, idle
from benchmarks.load import connected, paced

CLIENTS = (1, 16, 128)
RATE = 50  # requests per second and client
SECONDS, QUICK_SECONDS = 4.0, 1.5
TARGETS = {(1, 50): 1.0, (128, 99): 1.0}
FIGURES = [
    Figure(f"p{percent}, {clients} clients", "us", TARGETS.get((clients, percent)))
    for clients in CLIENTS
    for percent in (50, 99)
]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write its JSON; 0 unless a run failed."""
    arguments = _arguments(argv)
    results = {side: Runs() for side in SIDES}
    for clients in CLIENTS:
        for side, runs in compare(clients, arguments).items():
            results[side].samples |= runs.samples
            results[side].failures += runs.failures
    report("qmp", FIGURES, results, {"rate": RATE, "seconds": arguments.seconds})
    return 1 if any(runs.failures for runs in results.values()) else 0


def compare(clients: int, arguments: argparse.Namespace) -> dict[str, Runs]:
    """Both machines with so many clients; QEMU has no more sockets than it needs, for each one slows it."""
    with ExitStack() as stack:
        machines = {side: stack.enter_context(idle(side, clients if side == QEMU else 1)) for side in SIDES}
        sides = {side: partial(run, machines[side], clients, arguments.seconds) for side in SIDES}
        return interleave(sides, arguments.runs)


def run(machine: Idle, clients: int, seconds: float) -> Mapping[str, float]:
    """The percentiles of one load, in microseconds."""
    with ExitStack() as stack:
        paths = (machine.sockets * clients)[:clients]
        latencies = paced([stack.enter_context(connected(path)) for path in paths], RATE, seconds)
    return {
        f"p{percent}, {clients} clients": percentile(latencies, percent) * 1_000_000 for percent in (50, 99)
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.qmp", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few and short runs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.runs, arguments.seconds = QUICK_RUNS, QUICK_SECONDS
    return arguments


if __name__ == "__main__":
    sys.exit(main())

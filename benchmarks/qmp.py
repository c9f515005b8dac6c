"""QMP round trips beside QEMU: ``query-status`` p50 and p99 with 1, 16 and 128 clients.

Open loop: each client asks 50 times a second, half of what flow control allows, and latency counts from when
a request was due. QEMU serves one client per socket, so it gets a socket for each; ours serve all on one. The
guest is the stock Debian kernel, idle at its shell.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks.harness import QEMU, SIDES, Effort, Figure, Runs, interleave, join, percentile
from benchmarks.idle import Idle, idle
from benchmarks.load import connected, paced

CLIENTS = (1, 16, 128)
RATE = 50  # requests per second and client
SECONDS, QUICK_SECONDS = 4.0, 1.0
TARGETS = {(1, 50): 1.0, (128, 99): 1.0}
FIGURES = [
    Figure(f"p{percent}, {clients} clients", "us", TARGETS.get((clients, percent)))
    for clients in CLIENTS
    for percent in (50, 99)
]


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Each number of clients in turn."""
    return join(*(_compared(clients, effort) for clients in CLIENTS))


def _compared(clients: int, effort: Effort) -> Mapping[str, Runs]:
    """Both machines with so many clients; QEMU has no more sockets than it needs, for each one slows it."""
    seconds = QUICK_SECONDS if effort.quick else SECONDS
    with ExitStack() as stack:
        machines = {side: stack.enter_context(idle(side, clients if side == QEMU else 1)) for side in SIDES}
        sides = {side: partial(_run, machines[side], clients, seconds) for side in SIDES}
        return interleave(sides, effort.runs)


def _run(machine: Idle, clients: int, seconds: float) -> Mapping[str, float]:
    """The percentiles of one load, in microseconds."""
    with ExitStack() as stack:
        paths = (machine.sockets * clients)[:clients]
        latencies = paced([stack.enter_context(connected(path)) for path in paths], RATE, seconds)
    return {
        f"p{percent}, {clients} clients": percentile(latencies, percent) * 1_000_000 for percent in (50, 99)
    }

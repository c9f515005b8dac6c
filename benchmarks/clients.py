"""Whether one client feels the others: its round trips alone, and beside three that misbehave.

One sends 100,000 commands without waiting for a reply, one sends commands and never reads, one sends a
command a byte a second. All talk to one socket of one machine with an idle guest; a fourth, measured, asks
``query-status`` 50 times a second. Alone and beside alternate; the ratio is beside over alone.
"""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.harness import OURS, Effort, Figure, Runs, interleave, percentile
from benchmarks.idle import idle
from benchmarks.load import CHUNK, QUERY, connected, paced

FLOOD = 100_000  # commands
DEAF = 20_000  # commands of the client that never reads: more than both ends' buffers hold
RATE = 50  # requests per second of the measured client: half of what flow control allows
SECONDS, QUICK_SECONDS = 6.0, 1.5
BYTE_SECONDS = 1.0  # between two bytes of the slow client
FIGURES = (Figure("query-status p50", "us"), Figure("query-status p99", "us"))

_Act = Callable[[socket.socket, threading.Event], None]


def measure(effort: Effort) -> Mapping[str, Runs]:
    """One machine, the client beside the three and alone in turns."""
    seconds = QUICK_SECONDS if effort.quick else SECONDS
    with idle(OURS) as machine:
        path = machine.sockets[0]
        sides = {"beside the three": partial(beside, path, seconds), "alone": partial(alone, path, seconds)}
        return interleave(sides, effort.runs)


def alone(path: Path, seconds: float) -> Mapping[str, float]:
    """The measured client's percentiles."""
    with connected(path) as client:
        latencies = paced([client], RATE, seconds)
    return {f"query-status p{percent}": percentile(latencies, percent) * 1_000_000 for percent in (50, 99)}


def beside(path: Path, seconds: float) -> Mapping[str, float]:
    """The same while the three are at it."""
    with ExitStack() as stack:
        stack.enter_context(_busy(path, partial(_flood, FLOOD), reads=True))
        stack.enter_context(_busy(path, partial(_flood, DEAF), reads=False))
        stack.enter_context(_busy(path, _drip, reads=True))
        return alone(path, seconds)


@contextmanager
def _busy(path: Path, act: _Act, *, reads: bool) -> Iterator[None]:
    """A client that sends in a thread, and reads in another if it reads at all, until the block ends."""
    stop = threading.Event()
    with connected(path) as client:
        client.settimeout(None)
        threads = [threading.Thread(target=_until_gone, args=(act, client, stop))]
        if reads:
            threads.append(threading.Thread(target=_until_gone, args=(_read, client, stop)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            client.shutdown(socket.SHUT_RDWR)  # wakes a thread that is in send or recv
            for thread in threads:
                thread.join()


def _until_gone(act: _Act, client: socket.socket, stop: threading.Event) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the end of the block, seen from here
        act(client, stop)


def _flood(commands: int, client: socket.socket, _stop: threading.Event) -> None:
    client.sendall(QUERY * commands)


def _drip(client: socket.socket, stop: threading.Event) -> None:
    for byte in itertools.cycle(QUERY):
        client.sendall(bytes([byte]))
        if stop.wait(BYTE_SECONDS):
            return


def _read(client: socket.socket, _stop: threading.Event) -> None:
    while client.recv(CHUNK):
        pass

"""QMP clients for benchmarks: plain sockets, and a paced load whose latencies hide nothing.

The load is open loop: a request is due at its time whether or not the last one was answered, and its latency
counts from when it was due. A server that stalls is charged for all that it kept waiting (Tene,
"How NOT to Measure Latency": coordinated omission). Each client keeps to its order and its own socket.
"""

import heapq
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Failed

QUERY = b'{"execute":"query-status"}\r\n'
CAPABILITIES = b'{"execute":"qmp_capabilities"}\r\n'
ANSWER, REFUSAL = b'"return"', b'"error"'
CHUNK = 1 << 16
CONNECT_SECONDS = 30
ANSWER_SECONDS = 10
SPIN = 0.0002  # seconds before a request is due that are not slept: what a timer may be late by, doubled


def connected(path: Path) -> socket.socket:
    """A blocking connection after greeting and negotiation, as soon as the server is there.

    :raise Failed: it is not there in time.
    """
    client = first_connection(path)
    client.settimeout(ANSWER_SECONDS)
    read_line(client)
    client.sendall(CAPABILITIES)
    read_line(client)
    return client


def first_connection(path: Path) -> socket.socket:
    """Connect as soon as somebody listens; nothing is read.

    A probe every millisecond: a start has no event that a stranger could wait for.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            time.sleep(0.001)
        else:
            return client
    raise Failed(f"nobody listens on {path.name} after {CONNECT_SECONDS} s")


def read_line(client: socket.socket) -> bytes:
    """One message, however it is cut.

    :raise Failed: the server has hung up.
    """
    data = b""
    while not data.endswith(b"\n"):
        packet = client.recv(CHUNK)
        if not packet:
            raise Failed(f"the server hung up after {data!r}")
        data += packet
    return data


class _Client:
    """A connection, when each of its unanswered requests was due, and the line that is incomplete."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.due: deque[float] = deque()
        self.rest = b""

    def send(self, due: float) -> None:
        self.due.append(due)
        self.connection.sendall(QUERY)

    def receive(self) -> list[float]:
        """Latencies, in seconds, of the requests that were answered."""
        packet = self.connection.recv(CHUNK)
        now = time.monotonic()
        *lines, self.rest = (self.rest + packet).split(b"\n")
        if not packet or any(REFUSAL in line for line in lines):
            raise Failed(f"no answer but {packet!r}")
        return [now - self.due.popleft() for line in lines if ANSWER in line]


def paced(connections: Sequence[socket.socket], rate: float, seconds: float) -> list[float]:
    """Latencies of ``query-status`` in seconds: ``rate`` a second from each client, evenly staggered.

    :raise Failed: a request was refused, or not answered in time.
    """
    clients = {connection.fileno(): _Client(connection) for connection in connections}
    start, step = time.monotonic(), 1 / rate / len(clients)
    schedule = [(start + step * place, fd) for place, fd in enumerate(clients)]
    poller = select.epoll()
    for fd in clients:
        poller.register(fd, select.EPOLLIN)
    with poller:
        return _drive(clients, schedule, poller, 1 / rate, start + seconds)


def _drive(
    clients: dict[int, _Client],
    schedule: list[tuple[float, int]],
    poller: select.epoll,
    interval: float,
    end: float,
) -> list[float]:
    latencies: list[float] = []
    while schedule or any(client.due for client in clients.values()):
        now = time.monotonic()
        if now > end + ANSWER_SECONDS:
            raise Failed(f"requests are unanswered {ANSWER_SECONDS} s after the last was due")
        while schedule and schedule[0][0] <= now:
            due, fd = heapq.heappop(schedule)
            clients[fd].send(due)
            if due + interval < end:
                heapq.heappush(schedule, (due + interval, fd))
        wait = schedule[0][0] - time.monotonic() - SPIN if schedule else ANSWER_SECONDS
        select.select([poller], [], [], max(0.0, wait))  # epoll's own timeout is in milliseconds
        for fd, _ in poller.poll(0):
            latencies += clients[fd].receive()
    return latencies

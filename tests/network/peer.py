"""A TCP peer for guests: listens, takes one connection, and says how many bytes passed and their SHA-256.

``python -m tests.network.peer receive|send HOST PORT SIZE``
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
from collections.abc import Iterator

BLOCK = 1 << 18


def received(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(BLOCK):
        yield data


def sent(connection: socket.socket, size: int) -> Iterator[bytes]:
    numbers = random.Random(size)
    for start in range(0, size, BLOCK):
        data = numbers.randbytes(min(BLOCK, size - start))
        connection.sendall(data)
        yield data
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)  # until the other end has closed: all of it has arrived


def main() -> None:
    what, host, port, size = sys.argv[1:]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, int(port)), family=family) as server:
        print("listening", flush=True)
        connection, _ = server.accept()
    digest, count = hashlib.sha256(), 0
    with connection:
        for data in received(connection) if what == "receive" else sent(connection, int(size)):
            digest.update(data)
            count += len(data)
    print(count, digest.hexdigest(), flush=True)


main()

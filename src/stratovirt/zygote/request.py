"""What a client tells the zygote: whose machine it is to become.

On the wire: a length of four bytes, then zero-terminated strings: the directory, the umask in octal, how many
arguments, those, and the environment as ``NAME=value``. Descriptors 0, 1 and 2 come with the first byte.
"""

from __future__ import annotations

import os
import socket

STANDARD_DESCRIPTORS = 3
LENGTH_SIZE = 4
PIECE = 1 << 16
LIMIT = 4 << 20
"""Bytes of a request; twice what execve(2) takes by default (a quarter of an 8 MiB stack)."""
SECONDS = 10.0
"""Within which a client has said everything."""


class BadRequest(Exception):
    """What came is not a whole request; the text says why."""


class Request:
    """A command line and what it stands in.

    :ivar argv: without the program's name.
    :ivar environment: all of it.
    """

    def __init__(self, argv: list[str], directory: str, umask: int, environment: dict[str, str]) -> None:
        self.argv = argv
        self.directory = directory
        self.umask = umask
        self.environment = environment


def of_this_process(argv: list[str]) -> Request:
    """The request of somebody who would start ``argv`` here and now."""
    umask = os.umask(0o077)
    os.umask(umask)
    return Request(argv, os.getcwd(), umask, dict(os.environ))


def send(connection: socket.socket, request: Request, descriptors: list[int]) -> None:
    """Send all of it.

    :raises OSError: the other side does not take it.
    """
    strings = [request.directory, f"{request.umask:o}", str(len(request.argv)), *request.argv]
    strings += (f"{name}={value}" for name, value in request.environment.items())
    text = b"".join(os.fsencode(string) + b"\0" for string in strings)
    message = len(text).to_bytes(LENGTH_SIZE, "little") + text
    sent = socket.send_fds(connection, [message], descriptors)
    connection.sendall(message[sent:])


def receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """A request and its descriptors, which are the caller's.

    :raises BadRequest: it is none, or took longer than :data:`SECONDS`.
    """
    connection.settimeout(SECONDS)
    descriptors: list[int] = []
    try:
        text = _read(connection, descriptors)
        if len(descriptors) != STANDARD_DESCRIPTORS:
            raise BadRequest(f"{len(descriptors)} descriptors came with it, not {STANDARD_DESCRIPTORS}")
        return _parse(text), descriptors
    except (OSError, BadRequest) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise BadRequest(str(error)) from error


def _read(connection: socket.socket, descriptors: list[int]) -> bytes:
    data = bytearray()
    while len(data) < LENGTH_SIZE or len(data) < LENGTH_SIZE + _length(data):
        piece, more, _, _ = socket.recv_fds(connection, PIECE, STANDARD_DESCRIPTORS)
        descriptors += more
        if not piece:
            raise BadRequest(f"it ended after {len(data)} bytes")
        data += piece
    return bytes(data[LENGTH_SIZE:])


def _length(data: bytearray) -> int:
    length = int.from_bytes(data[:LENGTH_SIZE], "little")
    if length > LIMIT:
        raise BadRequest(f"{length} bytes are announced, more than {LIMIT}")
    return length


def _parse(text: bytes) -> Request:
    try:
        directory, umask, count, *rest = map(os.fsdecode, text.split(b"\0")[:-1])
        argv, environment = rest[: int(count)], rest[int(count) :]
        return Request(argv, directory, int(umask, 8), dict(line.split("=", 1) for line in environment))
    except ValueError as error:
        raise BadRequest(f"it cannot be read: {error}") from error

"""What the fuzz of the protocol sends, and what must come of it in the sans-io core.

Two kinds of input, half of each: mutated transcripts of valid requests, and noise made of the pieces
that a JSON reader stumbles over. Seeded, so that a failure can be repeated by its number.
``python -m tests.protocol.fuzz COUNT`` runs so many inputs of each kind, for a look at what they cover.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from stratovirt.qmp.protocol import Connection, Refusal, Request, State

MARKER = "the command behind the noise"
FLUSHED = b'\xff\n{"execute":"query-status","id":"%s"}' % MARKER.encode()
"""A flush, then a command that must be understood whatever came before."""

COMMANDS = [
    "qmp_capabilities",
    "query-status",
    "stop",
    "cont",
    "query-version",
    "query-commands",
    "system_reset",
]
IDS: list[Any] = ["x", 7, -1, 1.5, None, True, [1, [2]], {"a": {"b": "é"}}, "\u0000", 2**63]
PIECES = [
    *(bytes([byte]) for byte in b'{}[],:"\\0-e.\n\r \x00\x1f\x7f\x80\xc3\xfe\xff'),
    b'{"execute":',
    b'"id":',
    b'"\\ud800"',
    b"NaN",
    b"1e999",
    b"99999999999999999999",
    b"true",
    b"tru",
    b"[" * 50,
    b'"' + b"x" * 50,
    b'{"execute":"stop"}',
    b'{"a":1,"a":2}',
]


def transcript(rng: random.Random) -> bytes:
    """A few valid requests as some client would send them."""
    requests = []
    for _ in range(rng.randint(1, 3)):
        request: dict[str, Any] = {"execute": rng.choice(COMMANDS)}
        if rng.random() < 0.3:
            request["arguments"] = {"enable": []} if rng.random() < 0.5 else {}
        if rng.random() < 0.7:
            request["id"] = rng.choice(IDS)
        requests.append(json.dumps(request, ensure_ascii=rng.random() < 0.5).encode())
    return rng.choice([b"", b"\n", b"\r\n", b" "]).join(requests)


def mutated(rng: random.Random) -> bytes:
    """A transcript with up to three faults."""
    stream = bytearray(transcript(rng))
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(stream) + 1)
        match rng.randrange(4):
            case 0:
                del stream[at : at + rng.randint(1, 4)]
            case 1:
                stream[at:at] = rng.choice(PIECES)
            case 2:
                stream[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                stream[at:at] = stream[rng.randrange(len(stream) + 1) :][:20]
    return bytes(stream)


def noise(rng: random.Random) -> bytes:
    """Pieces of JSON in no order."""
    return b"".join(rng.choices(PIECES, k=rng.randint(1, 12)))


KINDS: dict[str, Callable[[random.Random], bytes]] = {"mutated": mutated, "noise": noise}


def packets(rng: random.Random, stream: bytes) -> list[bytes]:
    """``stream``, cut anywhere, without empty packets: those would be its end."""
    places = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randint(0, 4)))
    cut = [stream[begin:end] for begin, end in zip([0, *places], [*places, len(stream)], strict=True)]
    return [packet for packet in cut if packet]


def through_the_core(connection: Connection, stream: list[bytes]) -> list[Request | Refusal]:
    """Every request that a connection reads, answered as soon as it has been read."""
    read: list[Request | Refusal] = []
    for packet in stream:
        if connection.state is not State.OPEN:
            break
        for request in connection.receive(packet):
            line = (
                connection.reply(b"{}") if isinstance(request, Request) else connection.refuse(request.desc)
            )
            assert line.endswith(b"\r\n")
            answer = check_echo(line, request)
            assert ("error" in answer) == isinstance(request, Refusal)
            read.append(request)
    return read


def check_echo(line: bytes, request: Request | Refusal) -> dict[str, Any]:
    """One line of JSON that carries the request's id exactly if there was one."""
    assert line.endswith(b"\r\n")
    assert line.count(b"\n") == 1
    answer: dict[str, Any] = json.loads(line)
    assert ("id" in answer) == (request.id is not None)
    assert request.id is None or answer["id"] == json.loads(request.id)
    return answer


def run(kind: str, inputs: int) -> Counter[str]:
    """So many inputs of one kind, each through a core of its own; how many requests and refusals it read.

    Whatever an input holds and however it is cut: each request has one answer with its id, nothing is raised,
    and a command behind a flush is read unless the stream went beyond a limit.
    """
    seen: Counter[str] = Counter()
    for number in range(inputs):
        rng = random.Random(number)
        stream = KINDS[kind](rng)
        connection = Connection()
        connection.greet("1.2.3")
        read = through_the_core(connection, [*packets(rng, stream), FLUSHED])
        assert read, f"input {number} got no answer: {stream!r}"
        last = read[-1]
        assert isinstance(last, Request), f"input {number} was not resynchronised: {stream!r}"
        assert json.loads(last.id or b"0") == MARKER
        seen.update(type(request).__name__ for request in read[:-1])
    return seen


if __name__ == "__main__":
    for kind in KINDS:
        run(kind, int(sys.argv[1]))

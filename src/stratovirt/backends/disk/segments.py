"""Lists of memoryviews seen as one run of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def total(segments: Sequence[memoryview]) -> int:
    """Bytes in all."""
    return sum(map(len, segments))


def behind(segments: Sequence[memoryview], done: int) -> list[memoryview]:
    """What follows the first ``done`` bytes."""
    rest = []
    for segment in segments:
        if done < len(segment):
            rest.append(segment[done:])
        done = max(done - len(segment), 0)
    return rest


def pieces(segments: Sequence[memoryview], most: int) -> Iterator[list[memoryview]]:
    """The same bytes in runs of ``most`` bytes; the last may be shorter."""
    run: list[memoryview] = []
    room = most
    for segment in segments:
        while len(segment) >= room:
            yield [*run, segment[:room]]
            segment, run, room = segment[room:], [], most
        if segment:
            run.append(segment)
            room -= len(segment)
    if run:
        yield run

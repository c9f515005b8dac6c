"""Writers that die: by SIGKILL at a random moment, or by their own hand before a chosen step.

A script, for it forks, which a test process with threads may not::

    python -m tests.migration.crashes kills DIR COUNT SEED
    python -m tests.migration.crashes steps DIR

It prints the generation of the snapshot that each left.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stratovirt.migration import directory as replaced
from stratovirt.migration.image import CHUNK
from stratovirt.migration.progress import Progress
from stratovirt.migration.writer import write_snapshot
from tests.migration.samples import PAGE, SIZE, assert_clean, contents, generation_of, guest, sections, write

LATEST = 0.2
"""Seconds after a writer's first snapshot; each takes a tenth of that or less."""
SMALL = 20 * PAGE
"""RAM where every step counts."""
STEPS = ("mkdir", "open", "ftruncate", "pwrite", "fsync", "rename", "unlink", "rmdir", "close")
"""The calls of the host that a writer makes, besides the exchange."""


def kills(directory: Path, count: int, seed: int) -> Iterator[int]:
    """What ``count`` writers leave, each killed at a random moment and each beginning where the last one was.

    That is always whole, and the last one that the writer told of or the one after it.
    """
    pick = random.Random(seed)
    generation = 0
    for _ in range(count):
        generation = _survive_a_kill(directory, generation + 1, pick.uniform(0, LATEST))
        yield generation


def _survive_a_kill(directory: Path, first: int, seconds: float) -> int:
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        _write_until_killed(directory, first, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = int(pipe.readline())
        seen = _read_all_the_while(directory, told, time.monotonic() + seconds)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        told = int([told, *pipe.read().split()][-1])
    left = generation_of(directory)
    assert max(seen, told) <= left <= told + 1
    return left


def _write_until_killed(directory: Path, first: int, pipe: int) -> None:
    with guest(contents(first)) as memory:
        for generation in range(first, sys.maxsize):
            for position in range(0, SIZE, CHUNK):
                memory.write(position, generation.to_bytes(8, "little"))
            write_snapshot(str(directory), memory.regions, sections(generation), Progress(SIZE))
            os.write(pipe, b"%d\n" % generation)


def _read_all_the_while(directory: Path, seen: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        before, seen = seen, generation_of(directory)
        assert seen >= before
    return seen


def steps(directory: Path) -> Iterator[int]:
    """What is there when the writer of generation 2 died before its first step, its second, … or never.

    Before each, generation 1 is written, and what the dead one left beside it is gone.
    """
    step, died = 0, True
    while died:
        write(directory, 1, SMALL)
        assert_clean(directory.parent)
        died = _dies_before(step, directory)
        yield generation_of(directory, SMALL)
        step += 1


def _dies_before(step: int, directory: Path) -> bool:
    writer = os.fork()
    if writer == 0:
        _count_down(step)
        write(directory, 2, SMALL)
        os._exit(0)
    _, status = os.waitpid(writer, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def _count_down(step: int) -> None:
    """From now on, the call number ``step`` of the host's is never made."""
    left = step

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*arguments, **options)

        return wrapper

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    replaced._renameat2 = counted(replaced._renameat2)  # type: ignore[assignment]


def main(mode: str, directory: str, *numbers: str) -> None:
    for generation in {"kills": kills, "steps": steps}[mode](Path(directory), *map(int, numbers)):
        print(generation, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

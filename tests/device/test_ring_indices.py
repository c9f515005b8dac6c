"""Who shares a ring with us and runs on another CPU never sees its index half stored.

That is a process of its own here, so that it runs whatever Python's threads do.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stratovirt.devices.virtio.lentring import MAX_SIZE, LentRings
from stratovirt.devices.virtio.queue import Chain, Rings, Virtqueue
from stratovirt.memory.files import SharedRegion, map_regions

SIZE = 256
QUEUE_ROOM = 3 * mmap.PAGESIZE
QUEUES = 2
LENT_RINGS = 8  # they are filled faster
INDEX = 2  # behind the flags
LAST = 0xFFFF  # the index does not wrap

WATCHER = f"""
import mmap, sys
fd, length, *indices = map(int, sys.argv[1:])
memory = memoryview(mmap.mmap(fd, length))
back = 0
print("ready", flush=True)
for at in indices:
    index = memory[at : at + 2].cast("H")
    seen = 0
    while seen != {LAST}:
        now = index[0]
        back += now < seen
        seen = now
print(back)
"""


@contextmanager
def watched(fd: int, length: int, indices: Sequence[int]) -> Iterator[list[str]]:
    """Within the block a process looks at these indices in turn, each until it is LAST.

    Afterwards the list tells how often one went back.
    """
    found: list[str] = []
    command = [sys.executable, "-c", WATCHER, *map(str, (fd, length, *indices))]
    with subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE, text=True) as watcher:
        try:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "ready\n"
            yield found
            found.append(watcher.stdout.read())
        finally:
            watcher.kill()


def test_the_used_index_never_goes_back_for_a_driver() -> None:
    length = QUEUES * QUEUE_ROOM
    rings = [Rings(at, at + mmap.PAGESIZE, at + 2 * mmap.PAGESIZE) for at in range(0, length, QUEUE_ROOM)]
    with os.fdopen(os.memfd_create("ram"), "r+b") as file:
        file.truncate(length)
        memory = map_regions(SharedRegion, file.fileno(), length, shared=True)
        with watched(file.fileno(), length, [its.used + INDEX for its in rings]) as found:
            for its in rings:
                fill(Virtqueue(memory, 0, SIZE, its, 0, lambda: None))
    memory.close()
    assert found == ["0\n"]


def fill(queue: Virtqueue) -> None:
    chain = Chain(0)
    for _ in range(LAST):
        queue.push(chain)


def test_the_available_index_never_goes_back_for_a_server_that_rings_are_lent_to() -> None:
    lent = LentRings(LENT_RINGS, address=0)
    rings = [lent.ring(number, MAX_SIZE) for number in range(LENT_RINGS)]
    with watched(lent.fd, lent.size, [ring.available + INDEX for ring in rings]) as found:
        for ring in rings:
            for _ in range(LAST):
                ring.offer(0)
    del ring
    rings.clear()
    lent.close()
    assert found == ["0\n"]

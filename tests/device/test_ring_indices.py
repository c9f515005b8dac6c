"""A driver on another CPU never sees a ring's index half stored.

The driver is a process of its own, so that it runs whatever Python's threads do here.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable

from stratovirt.devices.virtio.queue import Chain, Rings, Virtqueue
from stratovirt.memory.files import SharedRegion, map_regions

SIZE = 256
RINGS = Rings(descriptors=0, available=0x1000, used=0x2000)
STOP = 0x3000  # not zero: the driver is to end
MEMORY = 16 * mmap.PAGESIZE
PUSHES = 0xFFFF  # the index does not wrap

DRIVER = f"""
import mmap, sys
memory = memoryview(mmap.mmap(int(sys.argv[1]), {MEMORY}))
used = memory[{RINGS.used}:].cast("H")
STOP = {STOP}
"""
# Counts how often the used index goes back.
WATCH = """
seen = back = 0
print("ready", flush=True)
while not memory[STOP]:
    now = used[1]
    back += now < seen
    seen = now
print(back)
"""


def beside(program: str, device: Callable[[Virtqueue], None]) -> str:
    """What a driver that runs ``program`` says at the end, after ``device`` has done its part."""
    with os.fdopen(os.memfd_create("ram"), "r+b") as file:
        file.truncate(MEMORY)
        memory = map_regions(SharedRegion, file.fileno(), MEMORY, shared=True)
        command = [sys.executable, "-c", DRIVER + program, str(file.fileno())]
        with subprocess.Popen(command, pass_fds=[file.fileno()], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
            try:
                device(Virtqueue(memory, 0, SIZE, RINGS, 0, lambda: None))
            finally:
                memory.write(STOP, b"\1")
            said = driver.stdout.read()
    memory.close()
    return said


def test_the_used_index_never_goes_back() -> None:
    def push(queue: Virtqueue) -> None:
        chain = Chain(0)
        for _ in range(PUSHES):
            queue.push(chain)

    assert beside(WATCH, push) == "0\n"

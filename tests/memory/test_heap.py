"""What loading a kernel leaves in a thread's heap goes back to the host."""

from __future__ import annotations

import subprocess
import sys

LOADS_IN_A_THREAD = """
import os
import threading
from pathlib import Path

from stratovirt.native.heap import HeapMark

PIECE = 8 << 20
marks = []

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def load():
    for _ in range(3):  # the first is mapped, and makes those after it lie in the heap
        bytearray(b"x") * PIECE
    marks.append(HeapMark())

thread = threading.Thread(target=load)
thread.start()
thread.join()
before = resident()
marks[0].give_back()
marks[0].give_back()  # nothing more
print((before - resident()) / PIECE)
"""


def test_what_lies_unused_in_another_threads_heap_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADS_IN_A_THREAD], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) > 0.9

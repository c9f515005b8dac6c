"""What holds in every test: nothing is left behind.

A cop compares open fds, threads and child processes before and after each test. Trio keeps idle worker
threads for ten seconds; those are named ``Trio thread N`` and are not a test's leak.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Loaded only for a first client, in a thread beside others. Here pytest rewrites them, and two threads in
# ast.parse are one too many for Python 3.11 and 3.12 (python/cpython#106905).
import stratovirt.qmp.arguments
import stratovirt.qmp.validation  # noqa: F401

# A shell lets its background jobs ignore SIGINT, and they their children: ours are to obey it in any case.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


def _open_fds() -> set[tuple[int, str]]:
    fds = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            fds.add((int(entry.name), os.readlink(entry)))
        except FileNotFoundError:
            continue  # the directory listing's own fd
    return fds


def _threads() -> set[str]:
    return {f"{t.name} ({t.ident})" for t in threading.enumerate() if not t.name.startswith("Trio thread")}


def _children() -> set[int]:
    pids = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has been joined and is on its way out
    return pids


def _held() -> dict[str, set[object]]:
    return {"fds": set(_open_fds()), "threads": set(_threads()), "children": set(_children())}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails the test that leaves an fd, a thread or a child process."""
    before = _held()
    yield
    after = _held()
    if any(after[kind] - before[kind] for kind in after):
        gc.collect()  # exception tracebacks keep frames, and with them files, until the cycle is broken
        after = _held()
    left = {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]}
    assert not left, f"left behind: {left}"

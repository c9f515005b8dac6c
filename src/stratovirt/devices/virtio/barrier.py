"""The fence between a store to a ring and a load from it, for both sides at once.

Each side of a virtqueue stores an index, then loads the other side's wish to be told of it; without a fence
between, both can miss each other, and the queue hangs. A guest on KVM has its own fence. On the software
CPU it has none: the engine runs each vCPU as if it were alone and leaves fences out. So ours has to work on
the guest's thread too, which is what membarrier(2) does, by interrupting the cores that this process's
threads run on. It is called once per batch of requests, not once per request.
"""

from __future__ import annotations

import ctypes
import os

_SYS_MEMBARRIER = 324  # x86_64
_PRIVATE_EXPEDITED = 1 << 3
_REGISTER_PRIVATE_EXPEDITED = 1 << 4

# PyDLL keeps the GIL: giving it up costs more than the call.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall


def _membarrier(command: int) -> None:
    if _syscall(_SYS_MEMBARRIER, command, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"membarrier: {os.strerror(error)}")


def enable_full_barrier() -> None:
    """Allow :func:`full_barrier` in this process; again is harmless.

    :raises OSError: the host's kernel is older than 4.14, or forbids it.
    """
    _membarrier(_REGISTER_PRIVATE_EXPEDITED)


def full_barrier() -> None:
    """On every thread of this process, memory accesses before this call are done before those after it."""
    _membarrier(_PRIVATE_EXPEDITED)

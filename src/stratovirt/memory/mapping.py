"""Host address space for guest RAM: room with guard pages before and behind it.

The law: whoever runs off an end of guest RAM by mistake, in C or in the kernel, meets a page that is not
there, never the monitor's own memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os

# <sys/mman.h>; Python names MAP_NORESERVE from 3.13 on. RAM larger than the host's is the user's decision, as
# in QEMU.
MAP_NORESERVE, MAP_FIXED = 0x4000, 0x10
PROT_NONE, PROT_RAM = 0, mmap.PROT_READ | mmap.PROT_WRITE

HUGE_PAGE = 2 << 20
"""RAM starts at a multiple of it, or of its own pages' size, so that all of it can be in huge pages."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Room:
    """Address space for ``size`` bytes, zero at first, between guards.

    :param page_size: of what will be mapped there.
    :ivar mapping: all of it, guards too; closing it with a view in use raises BufferError.
    :ivar start: where in the mapping the ``size`` bytes begin.
    :raises OSError: the host refuses the mapping.
    """

    def __init__(self, size: int, page_size: int = mmap.PAGESIZE) -> None:
        alignment = max(HUGE_PAGE, page_size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.mapping = mmap.mmap(-1, size + 2 * alignment, flags, PROT_RAM)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        self.start = alignment - base % alignment  # one page at least
        self.address = base + self.start
        _protect(base, self.start)
        _protect(self.address + size, 2 * alignment - self.start)


def map_file(
    address: int, length: int, fd: int, offset: int, *, shared: bool = False, reserve: bool = False
) -> None:
    """Put a map of a file in the place of what is mapped at ``address`` (mmap(2), MAP_FIXED).

    :param reserve: refuse now what the host could not give later: huge pages are not overcommitted.
    :raises OSError: the host refuses.
    """
    flags = (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE) | (0 if reserve else MAP_NORESERVE)
    _map_over(address, length, flags, fd, offset)


def map_zeros(address: int, length: int) -> None:
    """Put zero pages in the place of what is mapped at ``address``.

    :raises OSError: the host refuses.
    """
    _map_over(address, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)


def _map_over(address: int, length: int, flags: int, fd: int, offset: int) -> None:
    if _libc.mmap(address, length, PROT_RAM, flags | MAP_FIXED, fd, offset) != address:
        raise _error()


def _protect(address: int, length: int) -> None:
    if _libc.mprotect(address, length, PROT_NONE) != 0:
        raise _error()


def _error() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

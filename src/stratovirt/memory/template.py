"""RAM that begins as the contents of a file, which it never changes.

The law: the file is mapped privately and opened for reading only; nothing here reaches it any other way.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from stratovirt.memory.guest import MAP_NORESERVE, GuestMemory, Region
from stratovirt.memory.layout import ram_ranges

PROT = mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED = 0x10  # <sys/mman.h>; Python has no name for it


class TemplateRegion(Region):
    """RAM that shares the file's pages with the page cache until the guest writes to them."""

    def discard(self, offset: int, length: int) -> None:
        """Let whole pages read zero; MADV_DONTNEED would bring the file's contents back.

        Fresh anonymous pages take their place. The host allows some 65,530 mappings per process
        (vm.max_map_count): where no more can be had, the pages are filled with zeros instead.

        :raises OSError: the host refuses for another reason.
        """
        try:
            _map_zeros(self.host_address + offset, length)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            ctypes.memset(self.host_address + offset, 0, length)


def map_template(fd: int, size: int) -> GuestMemory:
    """RAM of ``size`` bytes, a private map of the file ``fd``, which holds the regions one after the other.

    :param fd: open for reading; it may be closed afterwards.
    :raises OSError: the host refuses the mapping.
    """
    regions: list[Region] = []
    offset = 0
    try:
        for gpa, length in ram_ranges(size):
            flags = mmap.MAP_PRIVATE | MAP_NORESERVE
            regions.append(TemplateRegion(gpa, length, mmap.mmap(fd, length, flags, PROT, offset=offset)))
            offset += length
    except OSError:
        for region in regions:
            region.close()
        raise
    return GuestMemory(regions)


def _map_zeros(address: int, length: int) -> None:
    """Replace what is mapped at ``address`` by zero pages (mmap(2), MAP_FIXED)."""
    mmap_call = ctypes.CDLL(None, use_errno=True).mmap
    mmap_call.restype = ctypes.c_void_p
    mmap_call.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
    if mmap_call(address, length, PROT, flags, -1, 0) != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

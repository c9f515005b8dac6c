"""From ``-m``, ``-mem-path``, ``-mem-prealloc`` and ``-machine mem-share=`` to guest memory.

The law: a backing file is opened, sized and refused with everything else that is claimed; memory is mapped
when the board is built.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from stratovirt.cli import Config
from stratovirt.errors import OptionError
from stratovirt.memory import GuestMemory, Region
from stratovirt.memory.files import SharedRegion, map_regions
from stratovirt.memory.template import TemplateRegion

Allocate = Callable[[int], GuestMemory]
"""RAM of so many bytes."""


def claim_ram(options: Config, claimed: ExitStack) -> Allocate:
    """How the RAM of ``options`` is made; what that needs of the host is in ``claimed``.

    :raises OptionError: the host does not have it.
    """
    return partial(_allocate, options, _source(options, claimed))


def _allocate(options: Config, source: Allocate, size: int) -> GuestMemory:
    try:
        memory = source(size)
    except OSError as error:
        raise _refused(options, error) from error
    try:
        if not options.machine.dump_guest_core:
            for region in memory.regions:
                region.advise(mmap.MADV_DONTDUMP)
        if options.mem_prealloc:
            memory.populate()
    except OSError as error:
        memory.close()
        raise _refused(options, error) from error
    return memory


def _refused(options: Config, error: OSError) -> OptionError:
    size = f"{options.memory >> 20} MiB"
    if options.mem_path is not None:
        return OptionError(f"-mem-path {options.mem_path}", f"no {size} of memory from it: {error.strerror}")
    return OptionError(f"-m {options.memory >> 20}", f"the host refuses so much memory: {error.strerror}")


def _source(options: Config, claimed: ExitStack) -> Allocate:
    shared = options.machine.mem_share
    if options.mem_path is None and not shared:
        return GuestMemory.allocate
    try:
        fd = _open(options.mem_path)
        claimed.callback(os.close, fd)
        page_size = _page_size(fd)
        _fit(options, fd, page_size)
    except OSError as error:
        raise OptionError(f"-mem-path {options.mem_path}", str(error.strerror)) from error
    kind: type[Region] = SharedRegion if shared else TemplateRegion
    return lambda size: map_regions(kind, fd, size, shared=shared, page_size=page_size)


def _open(path: str | None) -> int:
    """The backing file: an unnamed one in a directory, as QEMU has it, or in memory."""
    if path is None:
        return os.memfd_create("guest-ram", os.MFD_CLOEXEC)
    if os.path.isdir(path):
        return os.open(path, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _page_size(fd: int) -> int:
    """On hugetlbfs its pages' size; otherwise the host's."""
    return os.fstatvfs(fd).f_bsize if _is_hugetlbfs(fd) else mmap.PAGESIZE


def _is_hugetlbfs(fd: int) -> bool:
    device = os.fstat(fd).st_dev
    where = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as mounts:  # proc(5): id, parent, major:minor, …, "-", type, …
        return any(
            fields[2] == where and fields[fields.index("-") + 1] == "hugetlbfs"
            for fields in (line.split() for line in mounts)
        )


def _fit(options: Config, fd: int, page_size: int) -> None:
    """Make the file as long as RAM; one with other contents is refused."""
    about = f"-mem-path {options.mem_path}"
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OptionError(about, "neither a regular file nor a directory")
    if options.memory % page_size:
        raise OptionError(
            about, f"RAM of {options.memory >> 20} MiB is no multiple of its {page_size >> 10} KiB pages"
        )
    if status.st_size == 0:
        os.ftruncate(fd, options.memory)
    elif status.st_size != options.memory:
        raise OptionError(about, f"it has {status.st_size} bytes, RAM has {options.memory}")

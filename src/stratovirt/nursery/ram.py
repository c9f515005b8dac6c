"""From ``-m``, ``-mem-path``, ``-mem-prealloc``, ``-machine mem-share=`` and memory backends to guest memory.

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
from typing import NamedTuple, cast

from stratovirt.cli import Config
from stratovirt.cli.config import Object
from stratovirt.errors import OptionError
from stratovirt.memory import GuestMemory
from stratovirt.memory.files import FileRegion, SharedRegion, map_regions
from stratovirt.memory.template import TemplateRegion

Allocate = Callable[[int], GuestMemory]
"""RAM of so many bytes."""


class Backing(NamedTuple):
    """What RAM stands on.

    :ivar about: the option that says so, for messages.
    :ivar path: a file, or a directory for one without a name; None: anonymous memory.
    """

    about: str
    path: str | None
    share: bool
    prealloc: bool


def claim_ram(options: Config, claimed: ExitStack) -> Allocate:
    """How the RAM of ``options`` is made; what that needs of the host is in ``claimed``.

    :raises OptionError: the host does not have it.
    """
    backing = _backing(options)
    source = _source(backing, options.memory, claimed)
    return partial(allocate, backing, options.machine.dump_guest_core, source)


def is_shared(options: Config) -> bool:
    """Can another process map the RAM, and see what the guest does?"""
    return _backing(options).share


def _backing(options: Config) -> Backing:
    for thing in options.objects:
        if thing.id == options.machine.memory_backend:
            return _of_object(thing, options.mem_prealloc)
    about = f"-m {options.memory >> 20}" if options.mem_path is None else f"-mem-path {options.mem_path}"
    return Backing(about, options.mem_path, options.machine.mem_share, options.mem_prealloc)


def _of_object(backend: Object, prealloc: bool) -> Backing:
    """The defaults are QEMU's: memory in a memfd is shared, other memory is not."""
    about = f"-object {backend.type},id={backend.id}"
    if backend.get("host-nodes") is not None or backend.get("policy") not in (None, "default"):
        raise OptionError(about, "memory is not bound to the host's nodes; start under numactl(8) for that")
    share = backend.get("share")
    return Backing(
        about,
        cast("str | None", backend.get("mem-path")),
        backend.type == "memory-backend-memfd" if share is None else bool(share),
        prealloc or bool(backend.get("prealloc")),
    )


def allocate(backing: Backing, dumped: bool, source: Allocate, size: int) -> GuestMemory:
    """RAM from ``source``, as ``backing`` and ``dumped`` (is it in core dumps?) say.

    :raises OptionError: the host does not have it.
    """
    try:
        memory = source(size)
    except OSError as error:
        raise _refused(backing, size, error) from error
    try:
        if not dumped:
            for region in memory.regions:
                region.advise(mmap.MADV_DONTDUMP)
        if backing.prealloc:
            memory.populate()
    except OSError as error:
        memory.close()
        raise _refused(backing, size, error) from error
    return memory


def _refused(backing: Backing, size: int, error: OSError) -> OptionError:
    if backing.path is not None:
        return OptionError(backing.about, f"no {size >> 20} MiB of memory from it: {error.strerror}")
    return OptionError(backing.about, f"the host refuses so much memory: {error.strerror}")


def _source(backing: Backing, size: int, claimed: ExitStack) -> Allocate:
    if backing.path is None and not backing.share:
        return GuestMemory.allocate
    try:
        fd = _open(backing.path)
        claimed.callback(os.close, fd)
        page_size = _page_size(fd)
        _fit(backing.about, size, fd, page_size)
    except OSError as error:
        raise OptionError(backing.about, str(error.strerror)) from error
    kind: type[FileRegion] = SharedRegion if backing.share else TemplateRegion
    return lambda size: map_regions(kind, fd, size, shared=backing.share, page_size=page_size)


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


def _fit(about: str, size: int, fd: int, page_size: int) -> None:
    """Make the file as long as RAM; one with other contents is refused."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OptionError(about, "neither a regular file nor a directory")
    if size % page_size:
        raise OptionError(about, f"RAM of {size >> 20} MiB is no multiple of its {page_size >> 10} KiB pages")
    if status.st_size == 0:
        os.ftruncate(fd, size)
    elif status.st_size != size:
        raise OptionError(about, f"it has {status.st_size} bytes, RAM has {size}")

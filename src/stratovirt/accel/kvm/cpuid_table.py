"""CPUID tables as KVM's ioctls carry them: an array of ``struct kvm_cpuid_entry2``."""

from __future__ import annotations

from collections.abc import Iterable

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.cpuid import CpuidEntry
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.errors import AcceleratorError

MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES, arch/x86/include/asm/kvm_host.h
ENTRY_SIZE = ffi.sizeof("struct kvm_cpuid_entry2")


def supported(system_fd: int) -> list[CpuidEntry]:
    """The leaves that KVM can give a guest on this host."""
    return _entries(_fetch(system_fd, "KVM_GET_SUPPORTED_CPUID"))


def read(fd: int) -> list[CpuidEntry]:
    """The leaves that a vCPU shows the guest."""
    return _entries(_fetch(fd, "KVM_GET_CPUID2"))


def write(fd: int, entries: Iterable[CpuidEntry]) -> None:
    """Give a vCPU its table, before it runs."""
    rows = [vars(entry) for entry in entries]
    table = ffi.new("struct kvm_cpuid2 *", {"entries": rows})
    table.nent = len(rows)
    ioctl(fd, "KVM_SET_CPUID2", table)


def save(fd: int) -> bytes:
    """A vCPU's table."""
    table = _fetch(fd, "KVM_GET_CPUID2")
    return bytes(ffi.buffer(table.entries, table.nent * ENTRY_SIZE))


def load(fd: int, data: bytes) -> None:
    """Put a table that :func:`save` made in.

    :raises AcceleratorError: it is cut, or the kernel refuses it.
    """
    count, rest = divmod(len(data), ENTRY_SIZE)
    if rest:
        raise AcceleratorError(f"saved cpuid has {len(data)} bytes, not whole entries")
    table = ffi.new("struct kvm_cpuid2 *", {"entries": count})
    table.nent = count
    ffi.memmove(table.entries, data, len(data))
    try:
        ioctl(fd, "KVM_SET_CPUID2", table)
    except OSError as error:
        raise AcceleratorError(f"saved cpuid is refused: {error.strerror}") from error


def _entries(table: ffi.CData) -> list[CpuidEntry]:
    return [
        CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx)
        for e in table.entries[0 : table.nent]
    ]


def _fetch(fd: int, request: str) -> ffi.CData:
    table = ffi.new("struct kvm_cpuid2 *", {"entries": MAX_ENTRIES})
    table.nent = MAX_ENTRIES
    ioctl(fd, request, table)
    return table

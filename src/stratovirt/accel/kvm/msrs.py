"""Model-specific registers of one vCPU: one, or all that hold guest state.

Source: Intel SDM volume 4; KVM_GET_MSRS and KVM_SET_MSRS in the KVM API.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.errors import AcceleratorError

ENTRY = struct.Struct("<I4xQ")  # struct kvm_msr_entry: index, data

TSC = 0x10
MISC_ENABLE = 0x1A0
TSC_DEADLINE = 0x6E0
MTRR_DEFAULT_TYPE = 0x2FF

# Guest state that KVM keeps but KVM_GET_MSR_INDEX_LIST leaves out on many kernels; QEMU adds it too.
MTRRS = (
    MTRR_DEFAULT_TYPE,
    *(0x250, 0x258, 0x259, *range(0x268, 0x270)),  # fixed ranges
    *range(0x200, 0x210),  # eight variable ranges, base and mask
)

# Enlightenments of Hyper-V guests, which our CPUID does not offer. One is a clock that cannot be set.
HYPERV = range(0x4000_0000, 0x4000_0200)

# What firmware does and a kernel relies on: fast string operations enabled (Linux drops REP_GOOD and
# ERMS otherwise), and memory write-back by default with MTRRs on (Linux disables PAT otherwise).
FIRMWARE_DEFAULTS = {MISC_ENABLE: 0x1, MTRR_DEFAULT_TYPE: 0x806}


def read(fd: int, index: int) -> int:
    """Value of one MSR.

    :raises AcceleratorError: this KVM does not know it.
    """
    table = _table([index])
    if ioctl(fd, "KVM_GET_MSRS", table) != 1:
        raise AcceleratorError(f"MSR {index:#x} cannot be read")
    return int(table.entries[0].data)


def write(fd: int, values: dict[int, int]) -> None:
    """Set each MSR.

    :raises AcceleratorError: KVM refuses one; those before it are set.
    """
    load(fd, b"".join(ENTRY.pack(index, value) for index, value in values.items()))


def readable(fd: int, indices: Iterable[int]) -> list[int]:
    """Those of ``indices`` that hold state of this vCPU; the kernel's list is for every kind of guest."""
    left = sorted(index for index in set(indices) if index not in HYPERV)
    found: list[int] = []
    while left:
        count = ioctl(fd, "KVM_GET_MSRS", _table(left))
        found += left[:count]
        left = left[count + 1 :]  # KVM stops at the first that it cannot read
    return found


def save(fd: int, indices: list[int]) -> bytes:
    """All of ``indices`` as an array of ``struct kvm_msr_entry``.

    :raises AcceleratorError: one cannot be read.
    """
    table = _table(indices)
    count = ioctl(fd, "KVM_GET_MSRS", table)
    if count != len(indices):
        raise AcceleratorError(f"MSR {indices[count]:#x} cannot be read")
    return bytes(ffi.buffer(table.entries, ENTRY.size * count))


def load(fd: int, data: bytes) -> None:
    """Put an array that :func:`save` made in. An MSR that cannot be set but has the value already is fine:
    KVM lists some that are constants of the vCPU.

    :raises AcceleratorError: KVM refuses one of them.
    """
    if len(data) % ENTRY.size:
        raise AcceleratorError(f"saved msrs have {len(data)} bytes, not whole entries")
    left = dict(ENTRY.iter_unpack(data))
    while left:
        indices = list(left)
        count = _set(fd, left)
        if count < len(indices) and not _has(fd, indices[count], left[indices[count]]):
            raise AcceleratorError(f"MSR {indices[count]:#x} cannot be set to {left[indices[count]]:#x}")
        left = {index: left[index] for index in indices[count + 1 :]}


def _has(fd: int, index: int, value: int) -> bool:
    table = _table([index])
    return ioctl(fd, "KVM_GET_MSRS", table) == 1 and int(table.entries[0].data) == value


def _set(fd: int, values: dict[int, int]) -> int:
    """How many of ``values`` KVM took, from the first on."""
    table = _table(list(values))
    for entry, value in zip(table.entries[0 : table.nmsrs], values.values(), strict=True):
        entry.data = value
    return ioctl(fd, "KVM_SET_MSRS", table)


def _table(indices: list[int]) -> ffi.CData:
    table = ffi.new("struct kvm_msrs *", {"entries": len(indices)})
    table.nmsrs = len(indices)
    for entry, index in zip(table.entries[0 : len(indices)], indices, strict=True):
        entry.index = index
    return table

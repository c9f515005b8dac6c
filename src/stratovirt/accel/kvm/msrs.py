"""Model-specific registers of one vCPU: one, or all that hold guest state.

Source: Intel SDM volume 4; KVM_GET_MSRS and KVM_SET_MSRS in the KVM API.
"""

from __future__ import annotations

from collections.abc import Iterable

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.errors import AcceleratorError

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
    table = _table(list(values))
    for entry, value in zip(table.entries[0 : table.nmsrs], values.values(), strict=True):
        entry.data = value
    _write_table(fd, table)


def readable(fd: int, indices: Iterable[int]) -> list[int]:
    """Those of ``indices`` that this vCPU has: the list the kernel gives is of the host, not of the guest."""
    left = sorted(set(indices))
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
    return bytes(ffi.buffer(table.entries, ffi.sizeof("struct kvm_msr_entry") * count))


def load(fd: int, data: bytes) -> None:
    """Put an array that :func:`save` made in.

    :raises AcceleratorError: KVM refuses one of them.
    """
    count, rest = divmod(len(data), ffi.sizeof("struct kvm_msr_entry"))
    if rest:
        raise AcceleratorError(f"saved msrs have {len(data)} bytes, not whole entries")
    table = _table([0] * count)
    ffi.memmove(table.entries, data, len(data))
    _write_table(fd, table)


def _table(indices: list[int]) -> ffi.CData:
    table = ffi.new("struct kvm_msrs *", {"entries": len(indices)})
    table.nmsrs = len(indices)
    for entry, index in zip(table.entries[0 : len(indices)], indices, strict=True):
        entry.index = index
    return table


def _write_table(fd: int, table: ffi.CData) -> None:
    count = ioctl(fd, "KVM_SET_MSRS", table)
    if count != table.nmsrs:
        entry = table.entries[count]
        raise AcceleratorError(f"MSR {entry.index:#x} cannot be set to {entry.data:#x}")

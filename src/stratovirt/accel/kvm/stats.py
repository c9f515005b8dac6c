"""KVM's counters of one vCPU, which can be read while it runs.

Every ioctl on a vCPU waits until it is out of the guest; the statistics descriptor does not. Of its many
values one is wanted here: ``blocking``, 1 while the vCPU sleeps in the kernel (HLT, or no SIPI yet).

Source: KVM API, KVM_GET_STATS_FD; Linux 5.16 and later have the counter.
"""

from __future__ import annotations

import os

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.ioctl import ioctl

BLOCKING = b"blocking"
VALUE_SIZE = 8


class BlockingCounter:
    """Whether the vCPU ``vcpu_fd`` sleeps in the kernel.

    :raises OSError: the kernel refuses; ENOTTY where it is too old for statistics.
    """

    def __init__(self, vcpu_fd: int) -> None:
        self._fd = ioctl(vcpu_fd, "KVM_GET_STATS_FD")
        self._offset = self._find(BLOCKING)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def __bool__(self) -> bool:
        if self._offset is None:
            return False
        return any(os.pread(self._fd, VALUE_SIZE, self._offset))

    def _find(self, name: bytes) -> int | None:
        """Where the value called ``name`` stands in the descriptor; None if this kernel has none."""
        header = ffi.new("struct kvm_stats_header *")
        os.preadv(self._fd, [ffi.buffer(header)], 0)
        descriptor_size = ffi.sizeof("struct kvm_stats_desc") + header.name_size
        for number in range(header.num_desc):
            data = os.pread(self._fd, descriptor_size, header.desc_offset + number * descriptor_size)
            descriptor = ffi.from_buffer("struct kvm_stats_desc *", data)
            if ffi.string(ffi.cast("char *", descriptor.name), header.name_size) == name:
                return int(header.data_offset + descriptor.offset)
        return None

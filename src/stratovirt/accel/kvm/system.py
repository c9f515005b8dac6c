"""/dev/kvm itself: is it there, may we use it, is it complete.

The law: whatever is wrong with KVM on this host is found here, before anything of a VM exists, and said
in one line.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from stratovirt.accel.kvm._kvm import ffi, lib
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.errors import AcceleratorUnavailable

DEVICE = "/dev/kvm"

REQUIRED_CAPABILITIES = (
    "KVM_CAP_IRQCHIP",
    "KVM_CAP_USER_MEMORY",
    "KVM_CAP_PIT2",
    "KVM_CAP_IRQ_ROUTING",
    "KVM_CAP_IRQFD",
    "KVM_CAP_IOEVENTFD",
    "KVM_CAP_MP_STATE",
    "KVM_CAP_VCPU_EVENTS",
    "KVM_CAP_DEBUGREGS",
    "KVM_CAP_XSAVE",
    "KVM_CAP_XCRS",
    "KVM_CAP_ADJUST_CLOCK",
    "KVM_CAP_TSC_DEADLINE_TIMER",
    "KVM_CAP_IMMEDIATE_EXIT",  # the youngest: Linux 4.13
)

MAX_MSR_INDICES = 1024  # the kernel lists fewer than 500; more is E2BIG, which is reported


class KvmSystem:
    """An open /dev/kvm that can run our machine.

    :raises AcceleratorUnavailable: it is missing, forbidden, of another API version or incomplete.
    """

    def __init__(self) -> None:
        try:
            self.fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise AcceleratorUnavailable(_why_not_opened(error)) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the device; VMs made from it live on."""
        os.close(self.fd)

    def extension(self, capability: str) -> int:
        """What KVM_CHECK_EXTENSION says of ``capability``: 0 for no, else yes or a number of its own."""
        return ioctl(self.fd, "KVM_CHECK_EXTENSION", getattr(lib, capability))

    def msr_indices(self) -> list[int]:
        """The MSRs that hold guest state, as this KVM sees it."""
        table = ffi.new("struct kvm_msr_list *", {"indices": MAX_MSR_INDICES})
        table.nmsrs = MAX_MSR_INDICES
        ioctl(self.fd, "KVM_GET_MSR_INDEX_LIST", table)
        return list(table.indices[0 : table.nmsrs])

    def _check(self) -> None:
        try:
            version = ioctl(self.fd, "KVM_GET_API_VERSION")
        except OSError as error:
            raise AcceleratorUnavailable(f"{DEVICE} is not a KVM device") from error
        if version != lib.KVM_API_VERSION:
            raise AcceleratorUnavailable(f"{DEVICE} has API version {version}, not {lib.KVM_API_VERSION}")
        lacking = [name for name in REQUIRED_CAPABILITIES if not self.extension(name)]
        if lacking:
            raise AcceleratorUnavailable(f"{DEVICE} lacks {', '.join(lacking)}")


def _why_not_opened(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{DEVICE} does not exist on this host"
    if isinstance(error, PermissionError):
        return f"no permission for {DEVICE}: join the group that owns it, usually 'kvm'"
    return f"{DEVICE} cannot be opened: {error.strerror}"

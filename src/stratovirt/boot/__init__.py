"""Boot: kernel images, boot parameters, and the tables that describe the machine to its guest.

Lives here: everything that is in guest memory when vCPU 0 starts. What may not: devices, accelerators,
trio; nothing here runs once the guest does. It imports guest memory, errors and the accelerators'
protocol (for the entry state) only; the machine passes its addresses in as a :class:`Platform`.
"""

from stratovirt.boot.image import KernelImage, read_kernel
from stratovirt.boot.plan import BootPlan, BootRequest, plan
from stratovirt.boot.platform import (
    EVENT_POWER_BUTTON,
    POWER_OFF_VALUE,
    Platform,
    VirtioSlot,
)

__all__ = [
    "EVENT_POWER_BUTTON",
    "POWER_OFF_VALUE",
    "BootPlan",
    "BootRequest",
    "KernelImage",
    "Platform",
    "VirtioSlot",
    "plan",
    "read_kernel",
]

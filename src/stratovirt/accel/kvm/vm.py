"""The VM: memory slots, the interrupt controllers in the kernel, and what reaches them from outside.

The law: one :class:`KvmVm` owns one VM descriptor; nothing here knows of vCPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from stratovirt.accel.kvm._kvm import ffi, lib
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.accel.kvm.state import structure
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.errors import AcceleratorError
from stratovirt.memory import GuestMemory, Region

# Four pages that Intel's virtualization needs for real mode, in the device hole; QEMU's choice
# (target/i386/kvm/kvm.c, kvm_arch_init).
IDENTITY_MAP_ADDRESS = 0xFEFF_C000
TSS_ADDRESS = 0xFEFF_D000

PAGE_SIZE = 4096
BITMAP_WORD_BITS = 64  # the kernel writes dirty bitmaps in whole longs

IOAPIC_PINS = 24
PIC_PINS = 8  # of each of the two
PIT_GSI, PIT_IOAPIC_PIN = 0, 2  # as on a PC, and as the MADT's interrupt source override says
CASCADE_GSI = 2  # joins the two PICs; no device's

TIMER = structure("pit2", "kvm_pit_state2", "PIT2")
CONTROLLERS = tuple(
    structure(name, "kvm_irqchip", "IRQCHIP", header=chip.to_bytes(4, "little"))
    for name, chip in (
        ("pic_master", lib.KVM_IRQCHIP_PIC_MASTER),
        ("pic_slave", lib.KVM_IRQCHIP_PIC_SLAVE),
        ("ioapic", lib.KVM_IRQCHIP_IOAPIC),
    )
)
_CONTROL_GROUPS = {group.name: group for group in (*CONTROLLERS, TIMER)}
CLOCK_BYTES = 8


class KvmVm:
    """A VM with the guest's memory in it and PIC, IOAPIC and PIT in the kernel.

    :raises OSError: the kernel refuses a part of it.
    """

    def __init__(self, system: KvmSystem, memory: GuestMemory) -> None:
        self.fd = ioctl(system.fd, "KVM_CREATE_VM")
        self._memory = memory
        self._lines = ffi.new("struct irq_lines *")
        lib.connect_lines(self._lines, self.fd)
        try:
            self._set_slots(flags=0)
            ioctl(self.fd, "KVM_SET_TSS_ADDR", TSS_ADDRESS)
            ioctl(self.fd, "KVM_SET_IDENTITY_MAP_ADDR", ffi.new("uint64_t *", IDENTITY_MAP_ADDRESS))
            self._create_controllers()
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
        """Give the VM back; the kernel ends it when its vCPUs are closed too."""
        self._lines.fd = -1
        os.close(self.fd)

    # -- interrupts ----------------------------------------------------------------------------------

    def set_irq_line(self, gsi: int, level: bool) -> None:
        """Drive input ``gsi`` of the controllers."""
        ioctl(self.fd, "KVM_IRQ_LINE", ffi.new("struct kvm_irq_level *", {"irq": gsi, "level": level}))

    def native_irq(self, gsi: int) -> int:
        """Input ``gsi`` for a device in C: address of a ``struct native_irq``."""
        return int(lib.native_irq(self._lines, gsi))

    def signal_msi(self, address: int, data: int) -> bool:
        """Deliver a message-signalled interrupt (PCI 3.0, 6.8.1); False when no CPU took it."""
        message = {"address_lo": address & 0xFFFF_FFFF, "address_hi": address >> 32, "data": data}
        return ioctl(self.fd, "KVM_SIGNAL_MSI", ffi.new("struct kvm_msi *", message)) > 0

    def add_irqfd(self, fd: int, gsi: int, resample_fd: int | None = None) -> None:
        """From now on each write to eventfd ``fd`` raises ``gsi``.

        :param resample_fd: makes it level-triggered: the line stays up until the guest's end of
            interrupt, at which it falls and this eventfd is written; who still has a reason writes
            ``fd`` again.
        :raises OSError: ``fd`` is no eventfd, or is one of this VM's already.
        """
        irqfd = ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi})
        if resample_fd is not None:
            irqfd.flags = lib.KVM_IRQFD_FLAG_RESAMPLE
            irqfd.resamplefd = resample_fd
        ioctl(self.fd, "KVM_IRQFD", irqfd)

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """Undo :meth:`add_irqfd`."""
        flags = lib.KVM_IRQFD_FLAG_DEASSIGN
        ioctl(self.fd, "KVM_IRQFD", ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi, "flags": flags}))

    # -- notifications -------------------------------------------------------------------------------

    def add_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.add_ioeventfd`."""
        self._ioeventfd(fd, address, size, value, flags=0)

    def remove_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.remove_ioeventfd`."""
        self._ioeventfd(fd, address, size, value, flags=lib.KVM_IOEVENTFD_FLAG_DEASSIGN)

    def _ioeventfd(self, fd: int, address: int, size: int, value: int | None, flags: int) -> None:
        event = ffi.new("struct kvm_ioeventfd *", {"addr": address, "len": size, "fd": fd, "flags": flags})
        if value is not None:
            event.flags |= lib.KVM_IOEVENTFD_FLAG_DATAMATCH
            event.datamatch = value
        ioctl(self.fd, "KVM_IOEVENTFD", event)

    # -- memory --------------------------------------------------------------------------------------

    def start_dirty_log(self) -> None:
        """Note every page that is written from now on, page tables' accessed and dirty bits included."""
        self._set_slots(flags=lib.KVM_MEM_LOG_DIRTY_PAGES)

    def stop_dirty_log(self) -> None:
        """Forget about written pages."""
        self._set_slots(flags=0)

    def take_dirty_log(self) -> list[tuple[Region, bytes]]:
        """Pages written since the last call: for each region a bitmap, one bit per 4 KiB page, the
        lowest bit of the first byte for the first page."""
        return [
            (region, self._dirty_bitmap(slot, region)) for slot, region in enumerate(self._memory.regions)
        ]

    def _dirty_bitmap(self, slot: int, region: Region) -> bytes:
        words = -(-(region.size // PAGE_SIZE) // BITMAP_WORD_BITS)
        bitmap = ffi.new("uint64_t[]", words)
        ioctl(
            self.fd,
            "KVM_GET_DIRTY_LOG",
            ffi.new("struct kvm_dirty_log *", {"slot": slot, "dirty_bitmap": bitmap}),
        )
        return bytes(ffi.buffer(bitmap))

    def _set_slots(self, flags: int) -> None:
        for slot, region in enumerate(self._memory.regions):
            description = {
                "slot": slot,
                "flags": flags,
                "guest_phys_addr": region.gpa,
                "memory_size": region.size,
                "userspace_addr": region.host_address,
            }
            ioctl(
                self.fd,
                "KVM_SET_USER_MEMORY_REGION",
                ffi.new("struct kvm_userspace_memory_region *", description),
            )

    # -- state ---------------------------------------------------------------------------------------

    def save(self) -> dict[str, bytes]:
        """Controllers, timer and ``clock`` (nanoseconds, 8 bytes, little-endian) by name."""
        state = {name: group.save(self.fd) for name, group in _CONTROL_GROUPS.items()}
        return state | {"clock": self.clock().to_bytes(CLOCK_BYTES, "little")}

    def load(self, state: Mapping[str, bytes]) -> None:
        """Put in what :meth:`save` gave. After the vCPUs: the IOAPIC delivers what is pending to local
        APICs, which must not be overwritten then.

        :raises AcceleratorError: a part is missing, or the kernel refuses it.
        """
        lacking = [name for name in (*_CONTROL_GROUPS, "clock") if name not in state]
        if lacking:
            raise AcceleratorError(f"saved state of the VM lacks {', '.join(lacking)}")
        self.load_controllers(state)
        self.set_clock(int.from_bytes(state["clock"], "little"))

    def load_controllers(self, state: Mapping[str, bytes]) -> None:
        """Put the interrupt controllers and the timer in, and leave the clock alone."""
        for name, group in _CONTROL_GROUPS.items():
            group.load(self.fd, state[name])

    def clock(self) -> int:
        """The paravirtual clock, in nanoseconds."""
        data = ffi.new("struct kvm_clock_data *")
        ioctl(self.fd, "KVM_GET_CLOCK", data)
        return int(data.clock)

    def set_clock(self, nanoseconds: int) -> None:
        """Let the paravirtual clock go on from ``nanoseconds``."""
        ioctl(self.fd, "KVM_SET_CLOCK", ffi.new("struct kvm_clock_data *", {"clock": nanoseconds}))

    def _create_controllers(self) -> None:
        ioctl(self.fd, "KVM_CREATE_IRQCHIP")
        # Without the flag every access to port 0x61 would be the kernel's; with it a dummy answers.
        ioctl(
            self.fd,
            "KVM_CREATE_PIT2",
            ffi.new("struct kvm_pit_config *", {"flags": lib.KVM_PIT_SPEAKER_DUMMY}),
        )
        routes = _gsi_routes()
        table = ffi.new("struct kvm_irq_routing *", {"entries": routes})
        table.nr = len(routes)
        ioctl(self.fd, "KVM_SET_GSI_ROUTING", table)


def _gsi_routes() -> list[dict[str, object]]:
    """GSI n to pin n of the IOAPIC and, below 16, of the PICs. The kernel's default sends the PIT to
    IOAPIC pin 0, where no PC has it."""
    routes = []
    for gsi in range(IOAPIC_PINS):
        if gsi == CASCADE_GSI:
            continue
        if gsi < 2 * PIC_PINS:
            chip = lib.KVM_IRQCHIP_PIC_MASTER if gsi < PIC_PINS else lib.KVM_IRQCHIP_PIC_SLAVE
            routes.append(_route(gsi, chip, gsi % PIC_PINS))
        routes.append(_route(gsi, lib.KVM_IRQCHIP_IOAPIC, PIT_IOAPIC_PIN if gsi == PIT_GSI else gsi))
    return routes


def _route(gsi: int, chip: int, pin: int) -> dict[str, object]:
    target = {"irqchip": {"irqchip": chip, "pin": pin}}
    return {"gsi": gsi, "type": lib.KVM_IRQ_ROUTING_IRQCHIP, "u": target}

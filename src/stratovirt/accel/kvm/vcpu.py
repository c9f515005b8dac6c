"""One vCPU: what it is made with, and its whole state.

The law: nothing here runs the guest (see ``thread``), and nothing here may be called while it runs: the
kernel would make the caller wait until the guest is out. :attr:`KvmVcpu.halted` alone is free of that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from stratovirt.accel.kvm import cpuid_table, msrs, registers
from stratovirt.accel.kvm._kvm import ffi, lib
from stratovirt.accel.kvm.cpuid import CpuidEntry
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.accel.kvm.state import Group, structure
from stratovirt.accel.kvm.stats import BlockingCounter
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.kvm.vm import KvmVm
from stratovirt.accel.protocol import CpuStart
from stratovirt.errors import AcceleratorError

# LVT entries of the local APIC, and the delivery modes that the MP specification (3.6.2) puts there.
LVT_LINT0, LVT_LINT1 = 0x350, 0x360
DELIVER_EXTINT, DELIVER_NMI = 0x700, 0x400

# mp_state first: reading it delivers a pending INIT or SIPI, which changes the rest. vcpu_events last:
# they are what is still pending after that.
SAVE_ORDER = (
    *("mp_state", "cpuid", "regs", "sregs", "fpu", "xsave", "xcrs", "debugregs", "lapic", "msrs"),
    "vcpu_events",
)

# Loading has its order for these reasons:
# - cpuid first: the kernel checks CR4, XCR0, xsave and MSRs against it;
# - sregs before lapic: they hold APIC_BASE, which says whether there is one and in which mode;
# - fpu before xsave, which covers it and more;
# - lapic before msrs: TSC_DEADLINE is taken only when the APIC's timer is in that mode;
# - vcpu_events last: setting regs drops a pending exception.
LOAD_ORDER = (
    *("cpuid", "mp_state", "sregs", "regs", "fpu", "xcrs", "xsave", "debugregs", "lapic", "msrs"),
    "vcpu_events",
)


class KvmVcpu:
    """A vCPU of ``vm`` in the state that a machine has after power-on and firmware.

    :param index: its number; 0 starts the machine, the others wait for INIT and SIPI (KVM makes them so).
    :param apic_id: 0 for the first.
    :raises OSError: the kernel refuses.
    """

    def __init__(
        self, system: KvmSystem, vm: KvmVm, index: int, apic_id: int, cpuid: Iterable[CpuidEntry]
    ) -> None:
        self.index = index
        with ExitStack() as stack:
            self.fd = ioctl(vm.fd, "KVM_CREATE_VCPU", apic_id)
            stack.callback(os.close, self.fd)
            size = ioctl(system.fd, "KVM_GET_VCPU_MMAP_SIZE")
            self.run_page = _map_run_page(self.fd, size)
            stack.callback(lib.munmap, self.run_page, size)
            self._sleeping = _sleeping(system, self.fd, stack)
            self._groups = _groups(system)
            cpuid_table.write(self.fd, cpuid)
            self._msrs = msrs.readable(self.fd, (*system.msr_indices(), *msrs.MTRRS))
            self._do_what_firmware_does()
            self._power_on = self.save()
            self._resources = stack.pop_all()

    @property
    def halted(self) -> bool:
        """In HLT, or waiting for SIPI, at this moment. False while a pause keeps it out of the guest, and
        on kernels before Linux 5.16, which do not say."""
        return bool(self._sleeping)

    def close(self) -> None:
        """Unmap and close it."""
        self._resources.close()

    def registers(self) -> dict[str, int]:
        """See :meth:`stratovirt.accel.protocol.Vcpu.registers`."""
        return registers.read(self.fd)

    def start(self, entry: CpuStart) -> None:
        """Put it at the entry of a 64-bit kernel."""
        registers.enter_kernel(self.fd, entry)

    def reset(self) -> None:
        """Back to the state it was created in. CPUID is left: it cannot change once the vCPU has run."""
        for name in LOAD_ORDER:
            if name != "cpuid":
                self._load_group(name, self._power_on[name])

    def save(self) -> dict[str, bytes]:
        """Every state group by name, as opaque bytes.

        :raises OSError: the kernel refuses one.
        """
        return {name: self._save_group(name) for name in SAVE_ORDER}

    def load(self, state: Mapping[str, bytes]) -> None:
        """Put in what :meth:`save` of a like vCPU gave. This one has not run yet.

        KVM takes a TSC that is within a second of its own for an attempt to synchronise vCPUs and keeps
        its own: that is what keeps several together, and why a guest saved in its first second may see
        the TSC step by less than one.

        :raises AcceleratorError: a group is missing, or the kernel refuses it.
        """
        missing = [name for name in LOAD_ORDER if name not in state]
        if missing:
            raise AcceleratorError(f"saved state of vCPU {self.index} lacks {', '.join(missing)}")
        for name in LOAD_ORDER:
            self._load_group(name, state[name])

    def _save_group(self, name: str) -> bytes:
        match name:
            case "cpuid":
                return cpuid_table.save(self.fd)
            case "msrs":
                return msrs.save(self.fd, self._msrs)
            case _:
                return self._groups[name].save(self.fd)

    def _load_group(self, name: str, data: bytes) -> None:
        match name:
            case "cpuid":
                cpuid_table.load(self.fd, data)
            case "msrs":
                msrs.load(self.fd, data)
            case _:
                self._groups[name].load(self.fd, data)

    def _do_what_firmware_does(self) -> None:
        msrs.write(self.fd, msrs.FIRMWARE_DEFAULTS)
        lapic = ffi.new("struct kvm_lapic_state *")
        ioctl(self.fd, "KVM_GET_LAPIC", lapic)
        local_vectors = ffi.buffer(lapic.regs)
        if self.index == 0:
            local_vectors[LVT_LINT0 : LVT_LINT0 + 4] = DELIVER_EXTINT.to_bytes(4, "little")
        local_vectors[LVT_LINT1 : LVT_LINT1 + 4] = DELIVER_NMI.to_bytes(4, "little")
        ioctl(self.fd, "KVM_SET_LAPIC", lapic)


def _sleeping(system: KvmSystem, fd: int, stack: ExitStack) -> BlockingCounter | None:
    if not system.extension("KVM_CAP_BINARY_STATS_FD"):
        return None
    counter = BlockingCounter(fd)
    stack.callback(counter.close)
    return counter


def _map_run_page(fd: int, size: int) -> ffi.CData:
    """``struct kvm_run``, shared with the kernel."""
    address = lib.mmap(ffi.NULL, size, lib.PROT_READ | lib.PROT_WRITE, lib.MAP_SHARED, fd, 0)
    if address == ffi.cast("void *", -1):
        raise OSError(ffi.errno, f"mmap of a vCPU: {os.strerror(ffi.errno)}")
    return ffi.cast("struct kvm_run *", address)


def _groups(system: KvmSystem) -> dict[str, Group]:
    groups = (
        structure("regs", "kvm_regs", "REGS"),
        structure("sregs", "kvm_sregs", "SREGS"),
        structure("fpu", "kvm_fpu", "FPU"),
        structure("xcrs", "kvm_xcrs", "XCRS"),
        structure("debugregs", "kvm_debugregs", "DEBUGREGS"),
        structure("lapic", "kvm_lapic_state", "LAPIC"),
        structure("mp_state", "kvm_mp_state", "MP_STATE"),
        structure("vcpu_events", "kvm_vcpu_events", "VCPU_EVENTS"),
        _xsave(system),
    )
    return {group.name: group for group in groups}


def _xsave(system: KvmSystem) -> Group:
    """Since Linux 5.17 the area may exceed one page (AMX), and KVM_CAP_XSAVE2 says how large it is."""
    size = system.extension("KVM_CAP_XSAVE2")
    if not size:
        return structure("xsave", "kvm_xsave", "XSAVE")
    return Group("xsave", "KVM_GET_XSAVE2", "KVM_SET_XSAVE", size)

"""The KVM accelerator: one VM, its vCPUs and their threads' bodies, as the machine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from stratovirt.accel.features import UNCHANGED, Features
from stratovirt.accel.identity import CpuIdentity, identify
from stratovirt.accel.kvm import cpuid, cpuid_table
from stratovirt.accel.kvm.guest_time import GuestTime
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.kvm.thread import KvmVcpuThread
from stratovirt.accel.kvm.vcpu import KvmVcpu
from stratovirt.accel.kvm.vm import KvmVm
from stratovirt.accel.protocol import Bus, CpuStart
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorError, AcceleratorUnavailable
from stratovirt.memory import GuestMemory

MAX_VCPUS = 254
"""An xAPIC id has 8 bits, of which 0xFF is the broadcast and one is the IOAPIC's."""


@dataclass(frozen=True)
class KvmIrqLine:
    """Input ``gsi`` of the controllers in the kernel."""

    vm: KvmVm
    gsi: int

    def set_level(self, level: bool) -> None:
        """See :meth:`stratovirt.accel.protocol.IrqLine.set_level`."""
        self.vm.set_irq_line(self.gsi, level)


class KvmAccelerator:
    """See :class:`stratovirt.accel.protocol.Accelerator`; each vCPU has a thread of its own.

    :param vcpus: how many.
    :param topology: where they sit; unless said, all are cores of one socket.
    :param features: changes to what their CPUID says.
    :raises AcceleratorUnavailable: KVM is missing here, or refuses a part of the machine.
    """

    name = "kvm"
    state_version = 1

    def __init__(
        self,
        memory: GuestMemory,
        vcpus: int,
        bus: Bus,
        topology: Topology | None = None,
        features: Features = UNCHANGED,
    ) -> None:
        with ExitStack() as stack:
            try:
                self._create(stack, memory, vcpus, bus, topology or Topology(cores=vcpus), features)
            except OSError as error:
                raise AcceleratorUnavailable(f"KVM cannot make the machine: {error.strerror}") from error
            self._resources = stack.pop_all()

    def _create(
        self,
        stack: ExitStack,
        memory: GuestMemory,
        count: int,
        bus: Bus,
        topology: Topology,
        features: Features,
    ) -> None:
        system = stack.enter_context(KvmSystem())
        self.vm = stack.enter_context(KvmVm(system, memory))
        supported = cpuid_table.supported(system.fd)
        self.vcpus: list[KvmVcpu] = []
        for index in range(count):
            table = cpuid.with_features(cpuid.for_vcpu(supported, topology, index), features)
            vcpu = KvmVcpu(system, self.vm, index, topology.apic_id(index), table)
            stack.callback(vcpu.close)
            self.vcpus.append(vcpu)
        self.threads = [KvmVcpuThread(vcpu, bus, memory) for vcpu in self.vcpus]
        self._power_on = self.vm.save()
        self._time = GuestTime(self.vm, self.vcpus)

    def identity(self) -> CpuIdentity:
        """See :meth:`stratovirt.accel.protocol.Accelerator.identity`."""
        table = {(e.function, e.index): e for e in cpuid_table.read(self.vcpus[0].fd)}

        def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
            entry = table.get((leaf, subleaf))
            return (entry.eax, entry.ebx, entry.ecx, entry.edx) if entry else (0, 0, 0, 0)

        return identify(cpuid)

    def irq_line(self, gsi: int) -> KvmIrqLine:
        """See :meth:`stratovirt.accel.protocol.Accelerator.irq_line`."""
        return KvmIrqLine(self.vm, gsi)

    def native_irq(self, gsi: int) -> int:
        """See :meth:`stratovirt.accel.protocol.Accelerator.native_irq`."""
        return self.vm.native_irq(gsi)

    def add_native_ports(self, first: int, count: int, device: int) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.add_native_ports`."""
        for thread in self.threads:
            thread.add_native_ports(first, count, device)

    def add_irqfd(self, fd: int, gsi: int, resample_fd: int | None = None) -> None:
        """See :meth:`KvmVm.add_irqfd`."""
        self.vm.add_irqfd(fd, gsi, resample_fd)

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """See :meth:`KvmVm.remove_irqfd`."""
        self.vm.remove_irqfd(fd, gsi)

    def add_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.add_ioeventfd`."""
        self.vm.add_ioeventfd(fd, address, size, value)

    def remove_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.remove_ioeventfd`."""
        self.vm.remove_ioeventfd(fd, address, size, value)

    def memory_written(self, gpa: int, length: int) -> None:
        """Nothing to do: KVM keeps no translated code, and the host's caches are coherent."""

    @property
    def native_written(self) -> int:
        """See :meth:`memory_written`."""
        return 0

    def start(self, entry: CpuStart) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.start`."""
        self.vcpus[0].start(entry)

    def reset(self) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.reset`."""
        for vcpu in self.vcpus:
            vcpu.reset()
        self.vm.load_controllers(self._power_on)
        self._time.adopt()

    def save(self) -> dict[str, Any]:
        """See :meth:`stratovirt.accel.protocol.Accelerator.save`: every state group as KVM gives it."""
        vm = self.save_vm()
        return {"vm": vm, "vcpus": [vcpu.save() for vcpu in self.vcpus]}

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.load`."""
        if len(state["vcpus"]) != len(self.vcpus):
            raise AcceleratorError(f"saved with {len(state['vcpus'])} vCPUs, not {len(self.vcpus)}")
        for vcpu, saved in zip(self.vcpus, state["vcpus"], strict=True):
            vcpu.load(saved)
        self.load_vm(state["vm"])

    def save_vm(self) -> dict[str, bytes]:
        """State of the interrupt controllers, the timer and the clock. Before the vCPUs' own ``save``:
        while frozen it first makes every clock show the time at which it stopped."""
        self._time.rewind()
        return self.vm.save()

    def load_vm(self, state: Mapping[str, bytes]) -> None:
        """Put in what :meth:`save_vm` gave, after every vCPU's ``load``.

        :raises AcceleratorError: a part is missing, or the kernel refuses it.
        """
        self.vm.load(state)
        self._time.adopt()

    def freeze(self) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.freeze`, and :mod:`guest_time`."""
        self._time.freeze()

    def thaw(self) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.thaw`."""
        self._time.thaw()

    def close(self) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.close`."""
        self._resources.close()

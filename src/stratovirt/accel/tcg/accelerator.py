"""TcgAccelerator: a machine on the software CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from stratovirt.accel.features import FEATURES, UNCHANGED, Features
from stratovirt.accel.identity import CpuIdentity, identify
from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR, Bus, CpuStart, IrqLine
from stratovirt.accel.tcg import library
from stratovirt.accel.tcg.clock import Clock
from stratovirt.accel.tcg.cpu import TcgThread, TcgVcpu
from stratovirt.accel.tcg.cpuid import Leaf, leaves, without
from stratovirt.accel.tcg.exits import Exits
from stratovirt.accel.tcg.irqchip import IrqChip
from stratovirt.accel.tcg.library import ffi, lib
from stratovirt.accel.tcg.msr import MsrFile
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorError, AcceleratorUnavailable
from stratovirt.memory import GuestMemory

MAX_VCPUS = 16
"""All run in one host thread, at 3 MB and 1 GiB of address space each."""

MILLION = 1_000_000
TSC_TOLERANCE_PPM = 1000
"""How far a saved TSC frequency may be from this host's: Linux takes 500 ppm for a skew that NTP can correct,
and each of the two was measured."""

PHYSICAL_ADDRESS_BITS = 40
"""What the engine's CPUID leaf 0x80000008 says (TCG_PHYS_ADDR_BITS)."""


class Signals:
    """What the interrupt controllers ask of the vCPUs, passed on to the vCPU thread. Any thread."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def interrupt(self, cpu: int) -> None:
        lib.tcg_interrupt(self._machine, cpu)

    def init(self, cpu: int) -> None:
        lib.tcg_init(self._machine, cpu)

    def startup(self, cpu: int, vector: int) -> None:
        lib.tcg_startup(self._machine, cpu, vector)

    def nmi(self, cpu: int) -> None:
        lib.tcg_nmi(self._machine, cpu)

    def deadline_changed(self) -> None:
        lib.tcg_deadline_changed(self._machine)


class TcgAccelerator:
    """Virtual CPUs in software; implements :class:`stratovirt.accel.protocol.Accelerator`.

    :param memory: the guest's RAM; it has to outlive the accelerator.
    :param vcpus: 1 to :data:`MAX_VCPUS`.
    :param bus: the machine's side of port and MMIO accesses.
    :param topology: where the vCPUs sit; unless said, all are cores of one socket.
    :param features: changes to what their CPUID says.
    :raises AcceleratorUnavailable: too many vCPUs, a feature that it lacks, or no engine to be used.
    """

    name = "tcg"
    state_version = 1

    def __init__(
        self,
        memory: GuestMemory,
        vcpus: int,
        bus: Bus,
        topology: Topology | None = None,
        features: Features = UNCHANGED,
    ) -> None:
        if vcpus > MAX_VCPUS:
            raise AcceleratorUnavailable(f"accel tcg: at most {MAX_VCPUS} vCPUs, not {vcpus}")
        topology = self._topology = topology or Topology(cores=vcpus)
        self._removed = features.removed
        tsc_hz = self._host_hz = library.load()
        exits = Exits(bus)
        self._handle = ffi.new_handle(exits)
        self._machine = ffi.gc(_new_machine(self._handle, vcpus, tsc_hz), lib.tcg_free)
        self._clock = Clock(self._machine, tsc_hz)
        apic_ids = [topology.apic_id(index) for index in range(vcpus)]
        self._chip = IrqChip(apic_ids, self._clock, Signals(self._machine))
        self._exits = exits
        exits.machine, exits.chip = self._machine, self._chip
        self._frozen = False
        self.vcpus: Sequence[TcgVcpu] = tuple(TcgVcpu(self._machine, index) for index in range(vcpus))
        self.threads: Sequence[TcgThread] = (TcgThread(self._machine, exits, self.vcpus),)
        self._map(memory)
        for index in range(vcpus):
            self._set_cpuid(index, leaves(topology, index, tsc_hz))
        self._power_on()
        try:
            self._require(features.required)
        except AcceleratorUnavailable:
            self.close()
            raise

    def identity(self) -> CpuIdentity:
        """See :meth:`stratovirt.accel.protocol.Accelerator.identity`."""
        return identify(self._cpuid)

    def irq_line(self, gsi: int) -> IrqLine:
        """Input ``gsi`` of the IOAPIC, and of the PIC below 16."""
        return self._chip.line(gsi)

    def native_irq(self, gsi: int) -> int:
        """Input ``gsi``, for a device in C."""
        return int(lib.tcg_native_irq(self._machine, gsi))

    def add_native_ports(self, first: int, count: int, device: int) -> None:
        """Let a device in C serve one-byte accesses to these ports, straight from the engine."""
        if lib.tcg_add_native(self._machine, first, count, device) < 0:
            raise MemoryError

    def add_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """Guest writes of ``value`` to ``address`` add 1 to eventfd ``fd`` from now on."""
        if lib.tcg_add_ioeventfd(self._machine, fd, address, size, value is None, value or 0) < 0:
            raise MemoryError

    def remove_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """Undo :meth:`add_ioeventfd`, with equal arguments."""
        lib.tcg_remove_ioeventfd(self._machine, fd, address, size, value is None, value or 0)

    def memory_written(self, gpa: int, length: int) -> None:
        """Drop translated code of these bytes, before guest code goes on."""
        lib.tcg_memory_written(self._machine, gpa, length)

    @property
    def native_written(self) -> int:
        """See :meth:`stratovirt.accel.protocol.Accelerator.native_written`."""
        return int(lib.tcg_native_written(self._machine))

    def reset(self) -> None:
        """vCPUs and interrupt controllers to power-on state."""
        self._power_on()
        self._chip.reset()

    def start(self, entry: CpuStart) -> None:
        """Put vCPU 0 at the entry of a kernel, in 64-bit mode."""
        c_entry = ffi.new("struct tcg_entry *")
        for field in ("rip", "rsi", "rsp", "cr3", "gdt_base", "gdt_limit"):
            setattr(c_entry, field, getattr(entry, field))
        c_entry.code_selector, c_entry.data_selector = BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR
        lib.tcg_start(self._machine, c_entry)

    def freeze(self) -> None:
        """Stop guest time."""
        if self._frozen:
            raise RuntimeError("guest time is frozen already")
        self._frozen = True
        lib.tcg_freeze(self._machine)

    def thaw(self) -> None:
        """Let guest time go on from where :meth:`freeze` stopped it."""
        if not self._frozen:
            raise RuntimeError("guest time is not frozen")
        self._frozen = False
        lib.tcg_thaw(self._machine)

    def save(self) -> dict[str, Any]:
        """See :meth:`stratovirt.accel.protocol.Accelerator.save`."""
        return {
            "library": library.BUILD_ID,
            "tsc": self._clock.tsc(),
            "tsc_hz": self._clock.tsc_hz,
            "vcpus": [vcpu.save() | {"msrs": msrs.save()} for vcpu, msrs in self._vcpus_and_msrs()],
            "chip": self._chip.save(),
        }

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.load`."""
        if state["library"] != library.BUILD_ID:
            raise AcceleratorError(f"saved with another build of libunicorn: {state['library']}")
        if len(state["vcpus"]) != len(self.vcpus):
            raise AcceleratorError(f"saved with {len(state['vcpus'])} vCPUs, not {len(self.vcpus)}")
        self._set_time(state["tsc"], state["tsc_hz"])
        for (vcpu, msrs), saved in zip(self._vcpus_and_msrs(), state["vcpus"], strict=True):
            vcpu.load(saved)
            msrs.load(saved["msrs"])
        self._chip.load(state["chip"])

    def close(self) -> None:
        """Close the engines. Interrupt lines that are driven afterwards do nothing."""
        lib.tcg_close(self._machine)

    def _vcpus_and_msrs(self) -> Iterator[tuple[TcgVcpu, MsrFile]]:
        return zip(self.vcpus, self._exits.msrs, strict=True)

    def _set_time(self, tsc: int, tsc_hz: int) -> None:
        """The guest has learnt its TSC's frequency at boot: it must be this host's."""
        if abs(tsc_hz - self._host_hz) * MILLION > self._host_hz * TSC_TOLERANCE_PPM:
            there, here = tsc_hz // MILLION, self._host_hz // MILLION
            raise AcceleratorError(f"saved where the TSC ran at {there} MHz; here it is {here} MHz")
        self._clock.tsc_hz = tsc_hz
        lib.tcg_set_time(self._machine, tsc, tsc_hz)
        for index in range(len(self.vcpus)):
            self._set_cpuid(index, leaves(self._topology, index, tsc_hz))

    def _map(self, memory: GuestMemory) -> None:
        for region in memory.regions:
            lib.tcg_add_ram(self._machine, region.gpa, region.size, ffi.cast("void *", region.host_address))
        for gpa, size in _holes(memory):
            lib.tcg_add_hole(self._machine, gpa, size)

    def _require(self, names: Sequence[str]) -> None:
        for name in names:
            wanted = FEATURES[name]
            if not self._cpuid(wanted.leaf, wanted.subleaf)[wanted.register] & wanted.mask:
                raise AcceleratorUnavailable(f"accel tcg: the software CPU has no {name}")

    def _cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        registers = ffi.new("uint32_t[4]")
        lib.tcg_cpuid(self._machine, 0, leaf, subleaf, registers)
        return registers[0], registers[1], registers[2], registers[3]

    def _set_cpuid(self, cpu: int, wanted: Sequence[Leaf]) -> None:
        wanted = [*wanted, *map(without, self._removed)]
        changes = [(leaf.leaf, leaf.subleaf, leaf.keep, leaf.set) for leaf in wanted]
        lib.tcg_set_cpuid(self._machine, cpu, ffi.new("struct tcg_cpuid[]", changes), len(changes))

    def _power_on(self) -> None:
        self._exits.msrs = [MsrFile(self._machine, index) for index in range(len(self.vcpus))]
        problem = lib.tcg_power_on(self._machine)
        if problem != ffi.NULL:
            raise AcceleratorUnavailable(f"accel tcg: {ffi.string(problem).decode()}")


def _new_machine(handle: Any, vcpus: int, tsc_hz: int) -> Any:
    machine = lib.tcg_new(handle, vcpus, tsc_hz)
    if machine == ffi.NULL:
        raise AcceleratorUnavailable(f"accel tcg: {os.strerror(ffi.errno)}")
    return machine


def _holes(memory: GuestMemory) -> Iterator[tuple[int, int]]:
    """``(address, length)`` of all that is not RAM: the engine ends a run that touches unmapped space."""
    end = 0
    for region in memory.regions:
        if region.gpa > end:
            yield end, region.gpa - end
        end = region.end
    yield end, (1 << PHYSICAL_ADDRESS_BITS) - end

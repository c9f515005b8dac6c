"""What an accelerator offers, and what it asks of the machine.

The law: an accelerator owns vCPUs and interrupt controllers; it starts no thread and no task. Each
:class:`VcpuThread` is the body of one host thread that the nursery tree starts and waits for.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stratovirt.accel.identity import CpuIdentity

BOOT_CODE_SELECTOR = 0x10
BOOT_DATA_SELECTOR = 0x18


class Bus(Protocol):
    """The machine's side of an exit. Called on vCPU threads, in place; never waits for trio.

    ``size`` is 1, 2, 4 or 8 bytes; values are little-endian unsigned integers of that size. Unclaimed
    addresses read all ones and drop writes: a bus never raises for what a guest does.
    """

    def pio_read(self, port: int, size: int) -> int: ...

    def pio_write(self, port: int, size: int, value: int) -> None: ...

    def mmio_read(self, address: int, size: int) -> int: ...

    def mmio_write(self, address: int, size: int, value: int) -> None: ...


class IrqLine(Protocol):
    """One interrupt input (GSI) of the guest's controllers. Callable from any thread."""

    def set_level(self, level: bool) -> None:
        """Drive the line; an edge-triggered input sees an interrupt at each rise."""


@dataclass(frozen=True)
class CpuStart:
    """State in which vCPU 0 enters a kernel: 64-bit mode, interrupts off, flat segments.

    The loader has put page tables and a GDT into guest memory: CS is :data:`BOOT_CODE_SELECTOR`, the
    data segments are :data:`BOOT_DATA_SELECTOR`. CR0 = PE|ET|PG (and NE|MP), CR4 = PAE, EFER = LME|LMA.
    Source: Linux Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL".
    """

    rip: int
    rsi: int
    rsp: int
    cr3: int
    gdt_base: int
    gdt_limit: int


class RunEnd(enum.Enum):
    """Why :meth:`VcpuThread.run` came back."""

    KICKED = "kicked"
    TRIPLE_FAULT = "triple fault"
    HALTED_FOREVER = "halted with interrupts off"


class Vcpu(Protocol):
    """One virtual CPU."""

    @property
    def index(self) -> int:
        """0-based."""

    @property
    def halted(self) -> bool:
        """In HLT (or waiting for SIPI) at this moment; a snapshot for query-cpus."""

    def registers(self) -> Mapping[str, int]:
        """rip, rflags, rax … r15, cr0, cr2, cr3, cr4, efer, cs … for logs. Only while it is not running."""


class VcpuThread(Protocol):
    """The body of one host thread that runs one vCPU (kvm) or all of them in turns (tcg)."""

    @property
    def name(self) -> str:
        """Thread name, 15 bytes at most: ``vcpu-0``."""

    @property
    def vcpus(self) -> Sequence[Vcpu]: ...

    def run(self) -> RunEnd:
        """Run guest code in the calling thread until :meth:`kick`, or an end only the machine can resolve.

        An exception that a :class:`Bus` method raises comes out of here, unchanged.

        :raises AcceleratorError: a vCPU cannot go on; carries its registers.
        """

    def kick(self) -> None:
        """Make :meth:`run` return KICKED soon. Any thread; idempotent; never blocks.

        A kick that comes while :meth:`run` is not running makes its next call return at once; it is
        used up when run returns KICKED.
        """


class Accelerator(Protocol):
    """A virtual CPU complex with its interrupt controllers.

    ``reset``, ``start``, ``freeze``, ``thaw``, ``save``, ``load`` and ``close`` are called only while no
    thread is in :meth:`VcpuThread.run`.

    :ivar state_version: of what :meth:`save` gives.
    """

    state_version: int

    @property
    def name(self) -> str:
        """``kvm`` or ``tcg``."""

    @property
    def threads(self) -> Sequence[VcpuThread]: ...

    @property
    def vcpus(self) -> Sequence[Vcpu]: ...

    def identity(self) -> CpuIdentity:
        """The CPU that the guest sees."""

    def irq_line(self, gsi: int) -> IrqLine:
        """Input ``gsi`` (0–23). 0–15 also reach the PIC."""

    def native_irq(self, gsi: int) -> int:
        """Input ``gsi`` for a device in C: address of a ``struct native_irq``, valid as long as this is."""

    def add_native_ports(self, first: int, count: int, device: int) -> None:
        """Let the ``struct native_device`` at address ``device`` serve one-byte accesses to ``count`` ports.

        Before any vCPU runs. What the device declines, and wider accesses, still reach the bus.

        :raises MemoryError: there are too many such devices.
        """

    def add_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """From now on a guest write of ``size`` bytes (and ``value``, unless None) to MMIO ``address`` adds
        1 to eventfd ``fd`` and does not reach the bus."""

    def remove_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None:
        """Undo :meth:`add_ioeventfd`, with equal arguments."""

    def memory_written(self, gpa: int, length: int) -> None:
        """The host changed guest memory; translated code of it must go. Any thread."""

    @property
    def native_written(self) -> int:
        """:meth:`memory_written` for C: address of a ``struct native_written``, valid as long as this is.

        0: nobody has to be told."""

    def reset(self) -> None:
        """Every vCPU and interrupt controller to its power-on state; CPUs above 0 wait for SIPI."""

    def start(self, entry: CpuStart) -> None:
        """Put vCPU 0 at the entry of a kernel."""

    def freeze(self) -> None:
        """Stop guest time (TSC, timers, paravirtual clock). Nested calls are errors."""

    def thaw(self) -> None:
        """Let guest time go on from where :meth:`freeze` stopped it."""

    def save(self) -> dict[str, Any]:
        """All state of vCPUs, interrupt controllers and clocks as plain values. While time is frozen."""

    def load(self, version: int, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave in ``version``. While time is frozen, before anything has run.

        :raises AcceleratorError: it is of another CPU, library or host than this accelerator can go on with.
        """

    def close(self) -> None:
        """Give everything back. The accelerator is not usable any more."""

"""What guest code asks for, answered: ports, MMIO, MSRs, interrupts, timers.

The law: everything here but ``exit_irq_line`` runs on the vCPU thread, called from C. An exception never
crosses C: it is kept, the run is ended, and :class:`~stratovirt.accel.tcg.cpu.TcgThread` raises it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from stratovirt.accel.protocol import Bus
from stratovirt.accel.tcg.irqchip import GeneralProtection, IrqChip
from stratovirt.accel.tcg.library import ffi, lib
from stratovirt.accel.tcg.msr import MsrFile

LAPIC_PAGE = 0xFEE0_0000
IOAPIC_PAGE = 0xFEC0_0000
PAGE_MASK = ~0xFFF

NEVER = (1 << 63) - 1
"""INT64_MAX: no timer is armed."""


class Exits:
    """Routes the exits of one machine. ``machine``, ``chip`` and ``msrs`` are set before anything runs."""

    machine: Any
    chip: IrqChip
    msrs: list[MsrFile]

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._failure: BaseException | None = None

    def fail(self, failure: BaseException) -> None:
        """End the run with ``failure``; the first one counts."""
        if self._failure is None:
            self._failure = failure
        lib.tcg_fail(self.machine)

    def take_failure(self) -> BaseException | None:
        """What :meth:`fail` got, once."""
        failure, self._failure = self._failure, None
        return failure

    def port_read(self, port: int, size: int) -> int:
        if port in self.chip.CLAIMED_PORTS:
            return sum(self.chip.port_read(port + i) << 8 * i for i in range(size))
        return self.bus.pio_read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        if port in self.chip.CLAIMED_PORTS:
            for i in range(size):
                self.chip.port_write(port + i, value >> 8 * i & 0xFF)
        else:
            self.bus.pio_write(port, size, value)

    def mmio_read(self, cpu: int, address: int, size: int) -> int:
        page = address & PAGE_MASK
        if page == LAPIC_PAGE:
            return self.chip.lapic_read(cpu, address - page)
        if page == IOAPIC_PAGE:
            return self.chip.ioapic_read(address - page)
        return self.bus.mmio_read(address, size)

    def mmio_write(self, cpu: int, address: int, size: int, value: int) -> None:
        page = address & PAGE_MASK
        if page == LAPIC_PAGE:
            self.chip.lapic_write(cpu, address - page, value)
        elif page == IOAPIC_PAGE:
            self.chip.ioapic_write(address - page, value)
        else:
            self.bus.mmio_write(address, size, value)

    def msr_read(self, cpu: int, index: int) -> int | None:
        value = self.chip.msr_read(cpu, index)
        return self.msrs[cpu].read(index) if value is None else value

    def msr_write(self, cpu: int, index: int, value: int) -> bool:
        return self.chip.msr_write(cpu, index, value) or self.msrs[cpu].write(index, value)


def _exits(handle: Any) -> Exits:
    exits: Exits = ffi.from_handle(handle)
    return exits


def _fail(_kind: type[BaseException], failure: BaseException, traceback: TracebackType) -> None:
    """What cffi calls when a function below raises: its first argument is in the frame."""
    _exits(traceback.tb_frame.f_locals["handle"]).fail(failure)


@ffi.def_extern(onerror=_fail, error=0xFFFF_FFFF)  # type: ignore[untyped-decorator]
def exit_port_read(handle: Any, port: int, size: int) -> int:
    return _exits(handle).port_read(port, size) & 0xFFFF_FFFF


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_port_write(handle: Any, port: int, size: int, value: int) -> None:
    _exits(handle).port_write(port, size, value)


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_irq_line(handle: Any, gsi: int, level: bool) -> None:
    _exits(handle).chip.set_line(gsi, level)


@ffi.def_extern(onerror=_fail, error=0xFFFF_FFFF_FFFF_FFFF)  # type: ignore[untyped-decorator]
def exit_mmio_read(handle: Any, cpu: int, address: int, size: int) -> int:
    return _exits(handle).mmio_read(cpu, address, size) & 0xFFFF_FFFF_FFFF_FFFF


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_mmio_write(handle: Any, cpu: int, address: int, size: int, value: int) -> None:
    _exits(handle).mmio_write(cpu, address, size, value)


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_msr_read(handle: Any, cpu: int, index: int, result: Any) -> bool:
    try:
        value = _exits(handle).msr_read(cpu, index)
    except GeneralProtection:
        return False
    if value is None:
        return False
    result[0] = value & 0xFFFF_FFFF_FFFF_FFFF
    return True


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_msr_write(handle: Any, cpu: int, index: int, value: int) -> bool:
    try:
        return _exits(handle).msr_write(cpu, index, value)
    except GeneralProtection:
        return False


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_cr8_read(handle: Any, cpu: int) -> int:
    return _exits(handle).chip.cr8(cpu)


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_cr8_write(handle: Any, cpu: int, value: int) -> None:
    _exits(handle).chip.set_cr8(cpu, value)


@ffi.def_extern(onerror=_fail)  # type: ignore[untyped-decorator]
def exit_pending(handle: Any, cpu: int) -> bool:
    return _exits(handle).chip.pending(cpu)


@ffi.def_extern(onerror=_fail, error=-1)  # type: ignore[untyped-decorator]
def exit_acknowledge(handle: Any, cpu: int) -> int:
    chip = _exits(handle).chip
    vector = chip.acknowledge(cpu)
    if vector >= 0 and chip.pending(cpu):
        vector |= int(lib.TCG_ACKNOWLEDGED_MORE)
    return vector


@ffi.def_extern(onerror=_fail, error=NEVER)  # type: ignore[untyped-decorator]
def exit_next_deadline(handle: Any) -> int:
    deadline = _exits(handle).chip.next_deadline()
    return NEVER if deadline is None else deadline


@ffi.def_extern(onerror=_fail, error=NEVER)  # type: ignore[untyped-decorator]
def exit_expire(handle: Any) -> int:
    _exits(handle).chip.expire()
    return int(exit_next_deadline(handle))

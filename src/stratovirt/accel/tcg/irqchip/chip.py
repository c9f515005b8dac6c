"""The interrupt controllers of one machine, wired together.

The law: one lock for all controllers, plain and not re-entrant. Every public method takes it but ``pending``,
``next_deadline``, ``cr8`` and ``line``, which read values that are replaced as a whole. :class:`VcpuSignals`
are called while it is held. Hence an engine may hold a lock of its own that its signals take while it calls
those four, and must not while it calls the others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from stratovirt.accel.protocol import IrqLine
from stratovirt.accel.tcg.irqchip.apic_bus import ApicBus
from stratovirt.accel.tcg.irqchip.contract import GeneralProtection, GuestClock, VcpuSignals
from stratovirt.accel.tcg.irqchip.ioapic import PINS, IoApic
from stratovirt.accel.tcg.irqchip.lapic import LocalApic
from stratovirt.accel.tcg.irqchip.pic import PicPair
from stratovirt.accel.tcg.irqchip.pit import Pit
from stratovirt.accel.tcg.irqchip.schedule import Schedule

IA32_APIC_BASE = 0x1B
IA32_TSC_DEADLINE = 0x6E0

APIC_BASE = 0xFEE0_0000
BOOTSTRAP_PROCESSOR = 1 << 8
APIC_ENABLE = 1 << 11

PIC_PORTS = frozenset({0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1})
PIT_PORTS = frozenset({0x40, 0x41, 0x42, 0x43, 0x61})
ISA_LINES = 16
PIT_GSI = 0
PIT_PIN = 2
"""IOAPIC pin of ISA interrupt 0, as PCs wire it and the MADT's interrupt source override tells."""


class IrqChip:
    """Local APICs (version 0x14), IOAPIC (24 pins), 8259 pair and 8254 of one machine.

    Addresses are offsets into the 4 KiB pages of the controllers; registers are 32 bits wide and aligned. The
    guest cannot make any method raise, but for :class:`GeneralProtection` where that is said.

    :param apic_ids: of each vCPU, in their order.
    """

    CLAIMED_PORTS = PIC_PORTS | PIT_PORTS
    """One-byte I/O ports."""

    def __init__(self, apic_ids: Sequence[int], clock: GuestClock, signals: VcpuSignals) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._schedule = Schedule(signals.deadline_changed)
        bus = ApicBus(signals)
        self._lapics = [
            LocalApic(index, apic_id, bus, clock, self._schedule) for index, apic_id in enumerate(apic_ids)
        ]
        self._ioapic = IoApic(bus)
        bus.connect(self._lapics, self._ioapic.end_of_interrupt)
        self._pic = PicPair(self._lapics[0].set_lint0)
        self._pit = Pit(clock, self._schedule, self._pit_tick)
        self._lines = [_Line(self, gsi) for gsi in range(PINS)]

    def pending(self, cpu: int) -> bool:
        """Whether :meth:`acknowledge` would return a vector now. The CPU's IF is not looked at. No lock."""
        lapic = self._lapics[cpu]
        return lapic.ready >= 0 or lapic.extint

    def acknowledge(self, cpu: int) -> int:
        """Vector to deliver (now in service), or -1. Look at :meth:`pending` again afterwards."""
        lapic = self._lapics[cpu]
        with self._lock:
            return self._pic.acknowledge() if lapic.extint else lapic.acknowledge()

    def next_deadline(self) -> int | None:
        """Guest ns of the earliest timer expiry, or None. No lock."""
        return self._schedule.next

    def expire(self) -> None:
        """Fire every timer that is due. Periodic ticks that were missed count as one."""
        with self._lock:
            self._schedule.expire(self._clock.now_ns())

    def lapic_read(self, cpu: int, offset: int) -> int:
        """Register of the local APIC that ``cpu`` sees at 0xfee00000."""
        with self._lock:
            return self._lapics[cpu].read(offset)

    def lapic_write(self, cpu: int, offset: int, value: int) -> None:
        """Write a register of ``cpu``'s own local APIC."""
        with self._lock:
            self._lapics[cpu].write(offset, value)

    def ioapic_read(self, offset: int) -> int:
        """Register of the IOAPIC."""
        with self._lock:
            return self._ioapic.read(offset)

    def ioapic_write(self, offset: int, value: int) -> None:
        """Write a register of the IOAPIC."""
        with self._lock:
            self._ioapic.write(offset, value)

    def port_read(self, port: int) -> int:
        """One byte from a port; those outside :data:`CLAIMED_PORTS` read all ones."""
        with self._lock:
            if port in PIC_PORTS:
                return self._pic.read(port)
            return self._pit.read(port) if port in PIT_PORTS else 0xFF

    def port_write(self, port: int, value: int) -> None:
        """One byte to a port; those outside :data:`CLAIMED_PORTS` drop it."""
        with self._lock:
            if port in PIC_PORTS:
                self._pic.write(port, value & 0xFF)
            elif port in PIT_PORTS:
                self._pit.write(port, value & 0xFF)

    def msr_read(self, cpu: int, index: int) -> int | None:
        """IA32_APIC_BASE and IA32_TSC_DEADLINE; None for MSRs that are not the chip's."""
        lapic = self._lapics[cpu]
        with self._lock:
            if index == IA32_TSC_DEADLINE:
                return lapic.timer.tsc_deadline
            if index == IA32_APIC_BASE:
                return self._apic_base(lapic)
        return None

    def msr_write(self, cpu: int, index: int, value: int) -> bool:
        """Write one of those MSRs; False for others. A deadline is compared with :meth:`GuestClock.tsc`.

        :raises GeneralProtection: IA32_APIC_BASE has a reserved bit or x2APIC mode set, or would move the
            registers, whose place is fixed here.
        """
        lapic = self._lapics[cpu]
        with self._lock:
            if index == IA32_TSC_DEADLINE:
                lapic.timer.write_tsc_deadline(value)
            elif index == IA32_APIC_BASE:
                if value & ~(APIC_ENABLE | BOOTSTRAP_PROCESSOR) != APIC_BASE:
                    raise GeneralProtection(f"IA32_APIC_BASE of vCPU {cpu} cannot be {value:#x}")
                lapic.set_enabled(bool(value & APIC_ENABLE))
            else:
                return False
        return True

    def cr8(self, cpu: int) -> int:
        """Bits 7:4 of the task priority. No lock."""
        return self._lapics[cpu].task_priority >> 4

    def set_cr8(self, cpu: int, value: int) -> None:
        """MOV to CR8 (SDM vol. 3A, 11.8.6.1).

        :raises GeneralProtection: ``value`` is above 15.
        """
        if value >> 4:
            raise GeneralProtection(f"CR8 of vCPU {cpu} cannot be {value:#x}")
        with self._lock:
            self._lapics[cpu].set_task_priority(value << 4)

    def line(self, gsi: int) -> IrqLine:
        """Input ``gsi``, 0–23. 0–15 also reach the 8259 pair, but for 2, its cascade. No lock."""
        return self._lines[gsi]

    def set_line(self, gsi: int, level: bool) -> None:
        """Drive input ``gsi``: what :meth:`line` stands for."""
        with self._lock:
            self._drive(gsi, level)

    def reset(self) -> None:
        """Power-on state of every controller. Lines stay at the level that their devices drive."""
        with self._lock:
            self._pit.reset()
            self._pic.reset()
            self._ioapic.reset()
            for lapic in self._lapics:
                lapic.reset()

    def save(self) -> dict[str, Any]:
        """State of every controller and timer as plain values; times are the clock's."""
        with self._lock:
            return {
                "lapics": [lapic.save() for lapic in self._lapics],
                "ioapic": self._ioapic.save(),
                "pic": self._pic.save(),
                "pit": self._pit.save(),
            }

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave; the clock goes on from where it was then."""
        with self._lock:
            self._pit.load(state["pit"])
            self._pic.load(state["pic"])
            self._ioapic.load(state["ioapic"])
            for lapic, saved in zip(self._lapics, state["lapics"], strict=True):
                lapic.load(saved)

    def _apic_base(self, lapic: LocalApic) -> int:
        enable = APIC_ENABLE if lapic.enabled else 0
        return APIC_BASE | enable | (BOOTSTRAP_PROCESSOR if lapic.index == 0 else 0)

    def _drive(self, gsi: int, level: bool) -> None:
        if gsi < ISA_LINES and gsi != PIT_PIN:
            self._pic.set_line(gsi, level)
        self._ioapic.set_line(PIT_PIN if gsi == PIT_GSI else gsi, level)

    def _pit_tick(self) -> None:
        self._drive(PIT_GSI, True)
        self._drive(PIT_GSI, False)


class _Line:
    """One input of an :class:`IrqChip`."""

    def __init__(self, chip: IrqChip, gsi: int) -> None:
        self._chip = chip
        self._gsi = gsi

    def set_level(self, level: bool) -> None:
        """Drive the line. Takes the chip's lock."""
        self._chip.set_line(self._gsi, level)

"""How interrupt messages find local APICs: destinations and delivery modes.

The law: a message is delivered, or refused, before :meth:`ApicBus.deliver` returns; there is no message in
flight, so no delivery status bit is ever seen set.

Source: Intel SDM vol. 3A, "Issuing Interprocessor Interrupts" (11.6), "Determining IPI Destination" (11.6.2).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from stratovirt.accel.tcg.irqchip.contract import VcpuSignals

if TYPE_CHECKING:
    from stratovirt.accel.tcg.irqchip.lapic import LocalApic

BROADCAST = 0xFF
"""Every local APIC, in physical and in logical mode (11.6.2.1, and KVM's ``kvm_apic_broadcast``)."""

FIRST_LEGAL_VECTOR = 16


class Delivery(enum.IntEnum):
    """Delivery mode: bits 10:8 of ICR, LVT and redirection entries."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(enum.IntEnum):
    """Destination shorthand: ICR bits 19:18."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


class ApicBus:
    """The local APICs of one machine, in order of their ids.

    :param signals: what INIT, SIPI, NMI and a deliverable interrupt end in.
    """

    def __init__(self, signals: VcpuSignals) -> None:
        self.signals = signals
        self.end_of_interrupt: Callable[[int], None] = lambda vector: None
        self.lapics: Sequence[LocalApic] = ()

    def connect(self, lapics: Sequence[LocalApic], end_of_interrupt: Callable[[int], None]) -> None:
        """Close the circle: the local APICs, and who is told the vector of each level interrupt's end."""
        self.lapics = lapics
        self.end_of_interrupt = end_of_interrupt

    def targets(self, destination: int, logical: bool) -> list[LocalApic]:
        """Local APICs that an 8-bit ``destination`` names."""
        if destination == BROADCAST:
            return list(self.lapics)
        if logical:
            return [lapic for lapic in self.lapics if lapic.answers_to(destination)]
        return [lapic for lapic in self.lapics if lapic.apic_id == destination]

    def send_ipi(self, source: LocalApic, command: int, destination: int) -> None:
        """Carry out a write of the interrupt command register (11.6.1)."""
        shorthand = command >> 18 & 3
        if shorthand == Shorthand.NONE:
            targets = self.targets(destination, logical=bool(command >> 11 & 1))
        elif shorthand == Shorthand.SELF:
            targets = [source]
        else:
            targets = [lapic for lapic in self.lapics if shorthand == Shorthand.ALL or lapic is not source]
        deassert = command >> 14 & 3 == 0b10
        mode = command >> 8 & 7
        if not (mode == Delivery.INIT and deassert):  # only synchronizes arbitration ids, on older processors
            self.deliver(targets, mode, command & 0xFF, level=False)

    def deliver(self, targets: Iterable[LocalApic], mode: int, vector: int, *, level: bool) -> bool:
        """Hand a message to ``targets``; whether a local APIC took it as an interrupt with a vector.

        SMI, ExtINT and reserved modes are dropped: there is no SMM, and the 8259 pair is wired to LINT0.
        """
        present = [lapic for lapic in targets if lapic.enabled]
        if mode == Delivery.LOWEST_PRIORITY:
            accepting = [lapic for lapic in present if lapic.software_enabled]
            present = sorted(accepting, key=lambda lapic: lapic.processor_priority)[:1]
        if mode in (Delivery.FIXED, Delivery.LOWEST_PRIORITY):
            accepted = [lapic.accept(vector, level) for lapic in present]
            return any(accepted)
        for lapic in present:
            self._signal(lapic, mode, vector)
        return False

    def _signal(self, lapic: LocalApic, mode: int, vector: int) -> None:
        if mode == Delivery.NMI:
            self.signals.nmi(lapic.index)
        elif mode == Delivery.INIT:
            lapic.init()
            self.signals.init(lapic.index)
        elif mode == Delivery.STARTUP:
            self.signals.startup(lapic.index, vector)

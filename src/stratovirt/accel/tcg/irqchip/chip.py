"""The interrupt controllers of one machine, wired together.

The law: one lock for all controllers. ``pending``, ``next_deadline``, ``cr8`` and ``line`` do not take it (each reads
values that are replaced as a whole); every other method does. :class:`VcpuSignals` are called while it is held.
"""

from __future__ import annotations

import threading

from stratovirt.accel.protocol import IrqLine
from stratovirt.accel.tcg.irqchip.contract import GuestClock, VcpuSignals


class IrqChip:
    """Local APICs, IOAPIC, 8259 pair and 8254 of one machine.

    Signatures are settled; the bodies follow.
    """

    CLAIMED_PORTS = frozenset({0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61})

    def __init__(self, vcpus: int, clock: GuestClock, signals: VcpuSignals) -> None:
        self._lock = threading.Lock()

    def pending(self, cpu: int) -> bool:
        """Whether :meth:`acknowledge` would return a vector now. The CPU's IF is not looked at. No lock."""
        raise NotImplementedError

    def acknowledge(self, cpu: int) -> int:
        """Vector to deliver (now in service), or -1. Look at :meth:`pending` again afterwards."""
        raise NotImplementedError

    def next_deadline(self) -> int | None:
        """Guest ns of the earliest timer expiry, or None. No lock."""
        raise NotImplementedError

    def expire(self) -> None:
        """Fire every timer that is due."""
        raise NotImplementedError

    def lapic_read(self, cpu: int, offset: int) -> int:
        raise NotImplementedError

    def lapic_write(self, cpu: int, offset: int, value: int) -> None:
        raise NotImplementedError

    def ioapic_read(self, offset: int) -> int:
        raise NotImplementedError

    def ioapic_write(self, offset: int, value: int) -> None:
        raise NotImplementedError

    def port_read(self, port: int) -> int:
        raise NotImplementedError

    def port_write(self, port: int, value: int) -> None:
        raise NotImplementedError

    def msr_read(self, cpu: int, index: int) -> int | None:
        raise NotImplementedError

    def msr_write(self, cpu: int, index: int, value: int) -> bool:
        raise NotImplementedError

    def cr8(self, cpu: int) -> int:
        raise NotImplementedError

    def set_cr8(self, cpu: int, value: int) -> None:
        raise NotImplementedError

    def line(self, gsi: int) -> IrqLine:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

"""What the chip asks of the engine, and the one fault it can ask for.

The law: the chip calls :class:`VcpuSignals` with its lock held, so an implementation returns at once, never
calls back into the chip, and takes no lock under which the engine calls a locking method of the chip.
"""

from __future__ import annotations

from typing import Protocol

from stratovirt.errors import StratovirtError


class GeneralProtection(StratovirtError):
    """The guest's access must raise #GP(0) in the vCPU; it never leaves the accelerator."""


class VcpuSignals(Protocol):
    """Requests to vCPU ``cpu`` (by index). Called from any thread, under the chip's lock."""

    def interrupt(self, cpu: int) -> None:
        """``pending(cpu)`` holds now: look for an interrupt soon. Repeats while it holds are harmless."""

    def init(self, cpu: int) -> None:
        """INIT: stop and wait for SIPI. The CPU's local APIC has been reset already."""

    def startup(self, cpu: int, vector: int) -> None:
        """SIPI: start at ``vector << 12`` in real mode, if waiting for SIPI."""

    def nmi(self, cpu: int) -> None:
        """Non-maskable interrupt."""

    def deadline_changed(self) -> None:
        """``next_deadline()`` is earlier now than it was."""


class GuestClock(Protocol):
    """Guest time: it stands still while frozen and never goes back. Called under the chip's lock."""

    @property
    def tsc_hz(self) -> int:
        """Ticks of :meth:`tsc` per second of guest time."""

    def now_ns(self) -> int:
        """Guest nanoseconds."""

    def tsc(self) -> int:
        """The time stamp counter that all vCPUs share."""

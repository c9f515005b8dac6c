"""The software CPU's interrupt controllers and timers: local APICs, IOAPIC, 8259 pair, 8254.

Lives here: register models in plain Python and the :class:`IrqChip` that wires them together. May not: know
the engine that runs vCPUs (it is seen through :class:`VcpuSignals` and :class:`GuestClock`), the bus or guest
memory; start threads; wait. Imports ``errors`` and ``vmstate`` and nothing else of the package.
"""

from stratovirt.accel.tcg.irqchip.apic_timer import LAPIC_TIMER_HZ
from stratovirt.accel.tcg.irqchip.chip import IrqChip
from stratovirt.accel.tcg.irqchip.contract import GeneralProtection, GuestClock, VcpuSignals

__all__ = ["LAPIC_TIMER_HZ", "GeneralProtection", "GuestClock", "IrqChip", "VcpuSignals"]

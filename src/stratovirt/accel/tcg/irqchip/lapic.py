"""One local APIC in xAPIC mode: acceptance, priorities and local sources of interrupts.

The law: IRR, ISR and TMR are integers of 256 bits, so the highest vector is one ``bit_length``. What is
deliverable is recomputed on each change into :attr:`LocalApic.ready` and :attr:`LocalApic.extint`, which may
be read without the chip's lock; everything else runs under it.

Source: Intel SDM vol. 3A, chapter "Advanced Programmable Interrupt Controller" (11), sections as given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from stratovirt.accel.tcg.irqchip.apic_bus import FIRST_LEGAL_VECTOR, ApicBus, Delivery
from stratovirt.accel.tcg.irqchip.apic_registers import (
    ICR_WRITABLE,
    LVT_WRITABLE,
    MASKED,
    SOFTWARE_ENABLE,
    SPURIOUS_WRITABLE,
    VERSION,
    VIRTUAL_WIRE,
    ApicError,
    Register,
)
from stratovirt.accel.tcg.irqchip.apic_timer import ApicTimer, TimerMode
from stratovirt.accel.tcg.irqchip.contract import GuestClock
from stratovirt.accel.tcg.irqchip.schedule import Schedule
from stratovirt.vmstate import load_fields, save_fields

NO_VECTOR = -1
BITMAPS = {Register.IN_SERVICE: "isr", Register.TRIGGER_MODE: "tmr", Register.INTERRUPT_REQUEST: "irr"}


_FIELDS = (
    *("enabled", "irr", "isr", "tmr", "task_priority", "_lint0", "_logical_destination"),
    *("_destination_format", "_spurious", "_command_low", "_command_high", "_error_status", "_errors"),
)


class LocalApic:
    """The local APIC of CPU ``index``.

    ``ready`` is the vector deliverable now or -1; ``extint`` says that the 8259 pair's request passes through
    LINT0.
    """

    def __init__(self, index: int, apic_id: int, bus: ApicBus, clock: GuestClock, schedule: Schedule) -> None:
        self.index = index
        self.apic_id = apic_id
        self._bus = bus
        self._lint0 = False
        self.ready = NO_VECTOR
        self.irr = self.isr = self.tmr = 0
        self.task_priority = 0
        self.timer = ApicTimer(clock, schedule, partial(self._raise_lvt, Register.LVT_TIMER))
        self._readers = self._make_readers()
        self._writers = self._make_writers()
        self.reset()

    def reset(self) -> None:
        """Power-on state (11.4.7.1), enabled in IA32_APIC_BASE. The level of LINT0 is not ours to change."""
        self.enabled = True
        self.init()

    def init(self) -> None:
        """State after INIT (11.4.7.3): all but the id and IA32_APIC_BASE."""
        self.irr = self.isr = self.tmr = 0
        self.task_priority = 0
        self._logical_destination = 0
        self._destination_format = 0xFFFF_FFFF
        self._spurious = 0xFF
        self._command_low = self._command_high = 0
        self._error_status = self._errors = 0
        self._lvt = dict.fromkeys(LVT_WRITABLE, MASKED)
        if self.index == 0:
            self._lvt[Register.LVT_LINT0] = VIRTUAL_WIRE
        self.timer.reset()
        self._update_extint()
        self._settle()

    def save(self) -> dict[str, Any]:
        """State as plain values."""
        lvt = {register.name: entry for register, entry in self._lvt.items()}
        return save_fields(self, _FIELDS) | {"lvt": lvt, "timer": self.timer.save()}

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave; the CPU is told what is deliverable."""
        load_fields(self, _FIELDS, state)
        self._lvt = {register: state["lvt"][register.name] for register in LVT_WRITABLE}
        self.timer.load(state["timer"])
        self._update_extint()
        self._settle()

    def set_enabled(self, enabled: bool) -> None:
        """IA32_APIC_BASE bit 11. Disabling loses all state (11.4.3) and ties LINT0 to the CPU's INTR."""
        if self.enabled and not enabled:
            self.init()
        self.enabled = enabled
        self._update_extint()

    @property
    def software_enabled(self) -> bool:
        """Whether interrupts with a vector are accepted (11.4.7.2)."""
        return bool(self._spurious & SOFTWARE_ENABLE)

    @property
    def processor_priority(self) -> int:
        """PPR (11.8.3.1)."""
        in_service = max(0, self.isr.bit_length() - 1) & 0xF0
        return self.task_priority if self.task_priority >> 4 >= in_service >> 4 else in_service

    def answers_to(self, destination: int) -> bool:
        """Whether logical ``destination`` names this APIC, in the flat or the cluster model (11.6.2.2)."""
        mine = self._logical_destination >> 24
        if self._destination_format >> 28 == 0xF:
            return bool(mine & destination)
        in_cluster = destination >> 4 in (mine >> 4, 0xF)
        return in_cluster and bool(mine & destination & 0xF)

    def accept(self, vector: int, level: bool) -> bool:
        """Take a fixed interrupt into the IRR; False if disabled by software or the vector is illegal."""
        if not self._spurious & SOFTWARE_ENABLE:
            return False
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.RECEIVE_ILLEGAL_VECTOR)
            return False
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit
        self._settle()
        return True

    def acknowledge(self) -> int:
        """Move the ready vector from IRR to ISR and return it; -1 if there is none (11.8.4)."""
        vector = self.ready
        if vector >= 0:
            bit = 1 << vector
            self.irr ^= bit
            self.isr |= bit
            self.ready = NO_VECTOR  # everything left in the IRR is of this class or below
        return vector

    def set_task_priority(self, value: int) -> None:
        """TPR, as written through its register or CR8 (11.8.6)."""
        self.task_priority = value & 0xFF
        self._settle()

    def set_lint0(self, level: bool) -> None:
        """The 8259 pair's INTR has changed to ``level``; fixed and NMI modes see the rise."""
        self._lint0 = level
        self._update_extint()
        if level and self.enabled:
            self._raise_lvt(Register.LVT_LINT0)

    def read(self, offset: int) -> int:
        """Register at ``offset``; all ones while the APIC is disabled, as unclaimed memory."""
        if not self.enabled:
            return 0xFFFF_FFFF
        reader = self._readers.get(offset)
        if reader is None:
            self._error(ApicError.ILLEGAL_REGISTER)
            return 0
        return reader()

    def write(self, offset: int, value: int) -> None:
        """Write register ``offset``; read-only ones do not change, unknown ones note an error (11.5.3)."""
        if not self.enabled:
            return
        writer = self._writers.get(offset)
        if writer is not None:
            writer(value & 0xFFFF_FFFF)
        elif offset not in self._readers:
            self._error(ApicError.ILLEGAL_REGISTER)

    def _settle(self) -> None:
        """Recompute what is deliverable: a vector of a class above both TPR's and the ISR's (11.8.3)."""
        vector = self.irr.bit_length() - 1
        if vector >> 4 > max(self.isr.bit_length() - 1, self.task_priority) >> 4:
            self.ready = vector
            self._bus.signals.interrupt(self.index)
        else:
            self.ready = NO_VECTOR

    def _update_extint(self) -> None:
        passes = not self.enabled or self._lvt[Register.LVT_LINT0] & (MASKED | 0x700) == VIRTUAL_WIRE
        self.extint = self._lint0 and passes
        if self.extint:
            self._bus.signals.interrupt(self.index)

    def _raise_lvt(self, register: Register) -> None:
        """Deliver the interrupt of a local source (11.5.1); the timer and error entries are always fixed."""
        entry = self._lvt[register]
        mode = entry >> 8 & 7
        if entry & MASKED:
            return
        if mode == Delivery.FIXED:
            self.accept(entry & 0xFF, level=False)
        elif mode == Delivery.NMI:
            self._bus.signals.nmi(self.index)

    def _error(self, error: ApicError) -> None:
        if not self._errors & error:  # an illegal vector in LVT error itself must end somewhere
            self._errors |= error
            self._raise_lvt(Register.LVT_ERROR)

    def _end_of_interrupt(self, _value: int) -> None:
        """EOI (11.8.5): the highest interrupt in service ends; a level one is told to the IOAPIC."""
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        bit = 1 << vector
        self.isr ^= bit
        if self.tmr & bit:
            self._bus.end_of_interrupt(vector)
        self._settle()

    def _write_logical_destination(self, value: int) -> None:
        self._logical_destination = value & 0xFF00_0000

    def _write_destination_format(self, value: int) -> None:
        self._destination_format = value | 0x0FFF_FFFF

    def _write_spurious(self, value: int) -> None:
        self._spurious = value & SPURIOUS_WRITABLE
        if not value & SOFTWARE_ENABLE:
            self._lvt = {register: entry | MASKED for register, entry in self._lvt.items()}
            self._update_extint()

    def _write_command(self, value: int) -> None:
        self._command_low = value & ICR_WRITABLE
        if value & 0x600 == 0 and value & 0xFF < FIRST_LEGAL_VECTOR:  # fixed or lowest priority
            self._error(ApicError.SEND_ILLEGAL_VECTOR)
        else:
            self._bus.send_ipi(self, value, self._command_high >> 24)

    def _write_command_high(self, value: int) -> None:
        self._command_high = value & 0xFF00_0000

    def _write_error_status(self, _value: int) -> None:
        """A write shows the errors since the last one, and rearms (11.5.3)."""
        self._error_status, self._errors = self._errors, 0

    def _read_lvt(self, register: Register) -> int:
        return self._lvt[register]

    def _write_lvt(self, register: Register, value: int) -> None:
        value &= LVT_WRITABLE[register]
        self._lvt[register] = value if self.software_enabled else value | MASKED
        if register == Register.LVT_TIMER:
            self.timer.set_mode(TimerMode(value >> 17 & 3))
        elif register == Register.LVT_LINT0:
            self._update_extint()

    def _bitmap_word(self, bitmap: str, word: int) -> int:
        bits: int = getattr(self, bitmap)
        return bits >> 32 * word & 0xFFFF_FFFF

    def _make_readers(self) -> dict[int, Callable[[], int]]:
        readers: dict[int, Callable[[], int]] = {
            Register.ID: lambda: self.apic_id << 24,
            Register.VERSION: lambda: VERSION,
            Register.TASK_PRIORITY: lambda: self.task_priority,
            Register.ARBITRATION_PRIORITY: lambda: 0,
            Register.PROCESSOR_PRIORITY: lambda: self.processor_priority,
            Register.END_OF_INTERRUPT: lambda: 0,
            Register.REMOTE_READ: lambda: 0,
            Register.LOGICAL_DESTINATION: lambda: self._logical_destination,
            Register.DESTINATION_FORMAT: lambda: self._destination_format,
            Register.SPURIOUS_VECTOR: lambda: self._spurious,
            Register.ERROR_STATUS: lambda: self._error_status,
            Register.COMMAND_LOW: lambda: self._command_low,
            Register.COMMAND_HIGH: lambda: self._command_high,
            Register.INITIAL_COUNT: lambda: self.timer.initial_count,
            Register.CURRENT_COUNT: self.timer.current_count,
            Register.DIVIDE_CONFIGURATION: lambda: self.timer.divide_configuration,
        }
        for register in LVT_WRITABLE:
            readers[register] = partial(self._read_lvt, register)
        for base, bitmap in BITMAPS.items():
            readers |= {base + 16 * word: partial(self._bitmap_word, bitmap, word) for word in range(8)}
        return readers

    def _make_writers(self) -> dict[int, Callable[[int], None]]:
        writers: dict[int, Callable[[int], None]] = {
            Register.TASK_PRIORITY: self.set_task_priority,
            Register.END_OF_INTERRUPT: self._end_of_interrupt,
            Register.LOGICAL_DESTINATION: self._write_logical_destination,
            Register.DESTINATION_FORMAT: self._write_destination_format,
            Register.SPURIOUS_VECTOR: self._write_spurious,
            Register.ERROR_STATUS: self._write_error_status,
            Register.COMMAND_LOW: self._write_command,
            Register.COMMAND_HIGH: self._write_command_high,
            Register.INITIAL_COUNT: self.timer.write_initial_count,
            Register.DIVIDE_CONFIGURATION: self.timer.write_divide,
        }
        return writers | {register: partial(self._write_lvt, register) for register in LVT_WRITABLE}

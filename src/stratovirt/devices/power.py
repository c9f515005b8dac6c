"""The ways by which a guest resets its machine or switches it off, and the button that asks it to.

Lives here: the i8042's reset line, the registers of ACPI's hardware-reduced model, and the Generic Event
Device with its power button. What a reset or power-off then means is the machine's business.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from stratovirt.accel.protocol import IrqLine
from stratovirt.vmstate import load_fields, save_fields


class PowerSwitch(Protocol):
    """The machine's side. Called on vCPU threads; returns at once."""

    def reset(self) -> None: ...

    def power_off(self) -> None: ...


class I8042:
    """A keyboard controller without a keyboard, at ports 0x60 (offset 0) and 0x64 (offset 4).

    Linux asks for its self test, reads and writes its command byte and pulses the reset line (0xFE);
    answering keeps a probing kernel from waiting half a second for each. Source: Intel 8042 data sheet,
    IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
    """

    DATA, COMMAND = 0, 4
    READ_COMMAND_BYTE, WRITE_COMMAND_BYTE, SELF_TEST, PULSE_RESET = 0x20, 0x60, 0xAA, 0xFE
    SELF_TEST_PASSED = 0x55
    state_version = 1
    OUTPUT_FULL = 0x01
    _FIELDS = ("_command_byte", "_expects_command_byte", "_output")

    def __init__(self, switch: PowerSwitch) -> None:
        self._switch = switch
        self._lock = threading.Lock()  # several vCPUs share the ports
        self.reset()

    def reset(self) -> None:
        """Power-on state."""
        self._command_byte = 0
        self._expects_command_byte = False
        self._output: int | None = None

    def save(self) -> dict[str, Any]:
        """See :class:`stratovirt.vmstate.Saved`."""
        return save_fields(self, self._FIELDS)

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """See :class:`stratovirt.vmstate.Saved`."""
        load_fields(self, self._FIELDS, state)

    def pio_read(self, offset: int, _size: int) -> int:
        """Status at 0x64; the byte that waits, or 0, at 0x60."""
        with self._lock:
            if offset == self.COMMAND:
                return 0 if self._output is None else self.OUTPUT_FULL
            waiting, self._output = self._output, None
            return waiting or 0

    def pio_write(self, offset: int, _size: int, value: int) -> None:
        """A command at 0x64, data at 0x60."""
        value &= 0xFF
        with self._lock:
            if offset == self.COMMAND:
                self._obey(value)
            elif self._expects_command_byte:
                self._command_byte = value
                self._expects_command_byte = False
        if offset == self.COMMAND and value == self.PULSE_RESET:
            self._switch.reset()

    def _obey(self, command: int) -> None:
        self._expects_command_byte = command == self.WRITE_COMMAND_BYTE
        if command == self.READ_COMMAND_BYTE:
            self._output = self._command_byte
        elif command == self.SELF_TEST:
            self._output = self.SELF_TEST_PASSED


class SleepRegisters:
    """Sleep control (offset 0) and sleep status (offset 1) of hardware-reduced ACPI.

    Source: ACPI 6.4 §4.8.3.7: SLP_TYP is bits 2–4 of the control register, SLP_EN bit 5.
    """

    CONTROL = 0
    SLEEP_ENABLE = 0x20
    SOFT_OFF = 5  # the machine's \\_S5 package says so

    def __init__(self, switch: PowerSwitch) -> None:
        self._switch = switch

    def pio_read(self, _offset: int, _size: int) -> int:
        """Always 0: no sleep state but off exists, so none is ever woken from."""
        return 0

    def pio_write(self, offset: int, _size: int, value: int) -> None:
        """Entering S5 switches the machine off; other states are not offered and ignored."""
        if offset == self.CONTROL and value & self.SLEEP_ENABLE and value >> 2 & 7 == self.SOFT_OFF:
            self._switch.power_off()


class ResetRegister:
    """ACPI's reset register (ACPI 6.4 §4.8.3.6): writing ``reset_value`` resets the machine."""

    def __init__(self, switch: PowerSwitch, reset_value: int) -> None:
        self._switch = switch
        self._reset_value = reset_value

    def pio_read(self, _offset: int, _size: int) -> int:
        """Write-only: reads 0."""
        return 0

    def pio_write(self, _offset: int, _size: int, value: int) -> None:
        """Reset on the value that the FADT names."""
        if value & 0xFF == self._reset_value:
            self._switch.reset()


class EventDevice:
    """The Generic Event Device (ACPI 6.4 §5.6.9): one 32-bit register of pending events, cleared by reading.

    The DSDT's ``_EVT`` reads it when the interrupt fires and notifies the power button.

    :param power_button: the bit that the DSDT takes for the power button.
    """

    state_version = 1

    def __init__(self, irq: IrqLine, power_button: int) -> None:
        self._irq = irq
        self._power_button = power_button
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """No event pending."""
        self._pending = 0
        self._irq.set_level(False)

    def save(self) -> dict[str, Any]:
        """See :class:`stratovirt.vmstate.Saved`."""
        return {"pending": self._pending}

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """See :class:`stratovirt.vmstate.Saved`."""
        self._pending = state["pending"]
        self._irq.set_level(bool(self._pending))

    def press_power_button(self) -> None:
        """Any thread."""
        with self._lock:
            self._pending |= self._power_button
            self._irq.set_level(True)

    def mmio_read(self, offset: int, _size: int) -> int:
        """The pending events at offset 0; reading clears them and the interrupt."""
        if offset:
            return 0
        with self._lock:
            pending, self._pending = self._pending, 0
            self._irq.set_level(False)
            return pending

    def mmio_write(self, _offset: int, _size: int, _value: int) -> None:
        """Read-only."""

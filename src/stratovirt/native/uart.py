"""Uart: the serial port of :mod:`stratovirt.devices.serial`, in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stratovirt.native._native import ffi, lib
from stratovirt.native.line import Line

REGISTERS = 8
SCR = 7


NUMBERS = ("ier", "fcr", "lcr", "mcr", "scr", "divisor", "overrun", "thre_pending", "level")
"""What a reset clears, by the data sheet's names; beside them the receive FIFO."""


class Uart:
    """A 16550A at the end of ``line``.

    :param irq: address of a ``struct native_irq``, which has to outlive it.
    :param on_scratch: called with what the guest writes to the scratch register.
    """

    state_version = 1

    def __init__(self, line: Line, irq: int, on_scratch: Callable[[int], None]) -> None:
        self._line = line  # whose memory C refers to
        self._on_scratch = on_scratch
        self._uart = ffi.gc(lib.uart_new(line.handle, irq), lib.uart_free)
        if self._uart == ffi.NULL:
            raise MemoryError

    @property
    def native(self) -> int:
        """Address of its ``struct native_device``, which lives as long as this object."""
        return int(lib.uart_native(self._uart))

    def pio_read(self, offset: int, _size: int) -> int:
        """Register ``offset`` (0–7). The port is 8 bits wide."""
        return int(lib.uart_read(self._uart, offset))

    def pio_write(self, offset: int, _size: int, value: int) -> None:
        """Write the low byte of ``value`` to register ``offset``."""
        lib.uart_write(self._uart, offset, value & 0xFF)
        if offset == SCR:
            self._on_scratch(value & 0xFF)

    def input_ready(self) -> None:
        """The line has bytes to take. Any thread."""
        lib.uart_update(self._uart)

    output_ready = input_ready

    def reset(self) -> None:
        """Master reset (data sheet, table I)."""
        lib.uart_reset(self._uart)

    def save(self) -> dict[str, Any]:
        """State as plain values: registers, and ``received``, the FIFO's bytes, oldest first."""
        state = ffi.new("struct uart_state *")
        lib.uart_save(self._uart, state)
        received = bytes(state.received[0 : state.received_count])
        return {name: int(getattr(state, name)) for name in NUMBERS} | {"received": received}

    def load(self, _version: int, saved: dict[str, Any]) -> None:
        """Take over what :meth:`save` gave, and drive the interrupt line as it says.

        :raises ValueError: more is received than the FIFO holds.
        """
        state = ffi.new("struct uart_state *")
        received = saved["received"]
        if len(received) > len(state.received):
            raise ValueError(f"{len(received)} bytes in a FIFO of {len(state.received)}")
        for name in NUMBERS:
            setattr(state, name, saved[name])
        state.received_count = len(received)
        ffi.memmove(state.received, received, len(received))
        lib.uart_load(self._uart, state)

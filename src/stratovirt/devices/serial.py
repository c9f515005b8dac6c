"""The serial port: a 16550A UART as Linux's 8250 driver and plain `outb` loops use it.

Source: National Semiconductor PC16550D data sheet, §8. Bytes move at host speed, so divisor and parity
are kept for reading back only, and the transmitter is empty whenever its peer has room.

This is the readable form. A machine has its twin in C, :class:`stratovirt.native.uart.Uart`, which tests hold
to the same values, bytes and interrupts: change both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from stratovirt.accel.protocol import IrqLine

# Register offsets (table II of the data sheet); DLAB turns the first two into the divisor latch.
RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)
REGISTERS = 8

IER_RX, IER_THRE, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_THRE, IIR_RX, IIR_LINE = 0x01, 0x02, 0x04, 0x06
IIR_FIFOS = 0xC0
FCR_ENABLE, FCR_CLEAR_RX = 1, 2
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 0x10
LSR_DATA, LSR_OVERRUN, LSR_THRE, LSR_IDLE = 0x01, 0x02, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80

FIFO_DEPTH = 16


class SerialPeer(Protocol):
    """The host's end of the line. Called on vCPU threads; never blocks."""

    def put(self, byte: int) -> None:
        """Take one byte of the guest's output."""

    def room(self) -> bool:
        """Would another byte be kept?"""

    def take(self) -> int | None:
        """The next byte of input, or None."""


def _ignore_scratch(_value: int) -> None:
    """What becomes of scratch writes while nobody listens."""


class Serial:
    """A UART whose line ends at ``peer``. The peer calls :meth:`input_ready` and :meth:`output_ready`.

    :param on_scratch: called with what the guest writes to the scratch register, which nothing else uses:
        at port 0x3FF it carries StratoVirt's boot marks.
    """

    def __init__(
        self, peer: SerialPeer, irq: IrqLine, on_scratch: Callable[[int], None] = _ignore_scratch
    ) -> None:
        self._peer = peer
        self._irq = irq
        self._on_scratch = on_scratch
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Master reset (data sheet, table I)."""
        self._ier = 0
        self._fcr = 0
        self._lcr = 0
        self._mcr = 0
        self._scr = 0
        self._divisor = 12  # 9600 baud, what firmware leaves behind
        self._received: deque[int] = deque()
        self._overrun = False
        self._thre_pending = False
        self._level = False
        self._irq.set_level(False)

    def input_ready(self) -> None:
        """The peer has bytes to take. Any thread."""
        with self._lock:
            self._update()

    output_ready = input_ready

    def pio_read(self, offset: int, _size: int) -> int:
        """Register ``offset`` (0–7). The port is 8 bits wide."""
        with self._lock:
            if offset == LSR:
                return self._read_lsr()
            value = self._read(offset)
            self._update()
            return value

    def pio_write(self, offset: int, _size: int, value: int) -> None:
        """Write the low byte of ``value`` to register ``offset``."""
        value &= 0xFF
        with self._lock:
            if offset == RBR_THR and not self._lcr & LCR_DLAB:
                self._transmit(value)
            else:
                self._write(offset, value)
            self._update()

    def _transmit(self, value: int) -> None:
        if self._mcr & MCR_LOOP:
            self._receive(value)
        else:
            self._peer.put(value)
        self._thre_pending = True

    def _receive(self, value: int) -> None:
        if len(self._received) >= FIFO_DEPTH:
            self._overrun = True
        else:
            self._received.append(value)

    def _read(self, offset: int) -> int:
        if offset == RBR_THR:
            return self._divisor & 0xFF if self._lcr & LCR_DLAB else self._read_rbr()
        if offset == IER:
            return self._divisor >> 8 if self._lcr & LCR_DLAB else self._ier
        if offset == IIR_FCR:
            return self._read_iir()
        if offset == MSR:
            return self._modem_status()
        return {LCR: self._lcr, MCR: self._mcr}.get(offset, self._scr)

    def _read_rbr(self) -> int:
        self._fill()
        return self._received.popleft() if self._received else 0

    def _read_lsr(self) -> int:
        self._fill()
        status = LSR_DATA if self._received else 0
        if self._overrun:
            self._overrun = False
            status |= LSR_OVERRUN
        return status | (LSR_THRE | LSR_IDLE if self._peer.room() else 0)

    def _read_iir(self) -> int:
        cause = self._cause()
        if cause == IIR_THRE:
            self._thre_pending = False
        return cause | (IIR_FIFOS if self._fcr & FCR_ENABLE else 0)

    def _modem_status(self) -> int:
        if not self._mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        wiring = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return sum(status for control, status in wiring if self._mcr & control)

    def _write(self, offset: int, value: int) -> None:
        if offset == RBR_THR:
            self._divisor = self._divisor & 0xFF00 | value
        elif offset == IER:
            self._write_ier(value)
        elif offset == IIR_FCR:
            self._fcr = value
            if value & FCR_CLEAR_RX:
                self._received.clear()
        elif offset == LCR:
            self._lcr = value
        elif offset == MCR:
            self._mcr = value & 0x1F
        elif offset == SCR:
            self._scr = value
            self._on_scratch(value)

    def _write_ier(self, value: int) -> None:
        if self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF | value << 8
            return
        if value & ~self._ier & IER_THRE:
            self._thre_pending = True  # enabling it with an empty transmitter interrupts at once
        self._ier = value & 0x0F

    def _fill(self) -> None:
        """Move what the peer has into the receive FIFO."""
        while len(self._received) < FIFO_DEPTH and not self._mcr & MCR_LOOP:
            byte = self._peer.take()
            if byte is None:
                return
            self._received.append(byte)

    def _cause(self) -> int:
        """The pending interrupt of the highest priority, as IIR codes it."""
        if self._overrun and self._ier & IER_LINE:
            return IIR_LINE
        if self._ier & IER_RX:
            self._fill()
            if self._received:
                return IIR_RX
        if self._thre_pending and self._ier & IER_THRE and self._peer.room():
            return IIR_THRE
        return IIR_NONE

    def _update(self) -> None:
        level = self._ier != 0 and self._cause() != IIR_NONE
        if level != self._level:
            self._level = level
            self._irq.set_level(level)

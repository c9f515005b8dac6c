"""The machine's buses: which device answers at which port and which guest physical address.

The law: a guest access never raises. What nobody claims reads all ones, writes to it are dropped, and
both are counted.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol


class PioDevice(Protocol):
    """Answers port I/O; ``offset`` counts from the first port it claimed."""

    def pio_read(self, offset: int, size: int) -> int: ...

    def pio_write(self, offset: int, size: int, value: int) -> None: ...


class MmioDevice(Protocol):
    """Answers memory-mapped I/O; ``offset`` counts from the first address it claimed."""

    def mmio_read(self, offset: int, size: int) -> int: ...

    def mmio_write(self, offset: int, size: int, value: int) -> None: ...


@dataclass
class Unclaimed:
    """How often the guest reached for what is not there."""

    reads: int = 0
    writes: int = 0

    def read(self, size: int) -> int:
        """Count a read and give all ones."""
        self.reads += 1
        return (1 << 8 * size) - 1


class MachineBus:
    """Both address spaces; implements :class:`stratovirt.accel.protocol.Bus`."""

    def __init__(self) -> None:
        self.unclaimed = Unclaimed()
        self._ports: dict[int, tuple[PioDevice, int]] = {}
        self._starts: list[int] = []
        self._windows: list[tuple[int, int, MmioDevice]] = []

    def claim_ports(self, first: int, count: int, device: PioDevice) -> None:
        """Let ``device`` answer at ports ``first`` to ``first + count - 1``.

        :raises ValueError: one of them is taken.
        """
        ports = range(first, first + count)
        taken = [port for port in ports if port in self._ports]
        if taken:
            raise ValueError(f"port {taken[0]:#x} is claimed twice")
        self._ports.update((port, (device, port - first)) for port in ports)

    def claim_mmio(self, start: int, length: int, device: MmioDevice) -> None:
        """Let ``device`` answer at addresses ``start`` to ``start + length - 1``.

        :raises ValueError: the window overlaps another.
        """
        for other_start, other_end, _ in self._windows:
            if start < other_end and other_start < start + length:
                raise ValueError(f"address {max(start, other_start):#x} is claimed twice")
        at = bisect_right(self._starts, start)
        self._starts.insert(at, start)
        self._windows.insert(at, (start, start + length, device))

    def pio_read(self, port: int, size: int) -> int:
        """Read a port of 1, 2 or 4 bytes."""
        entry = self._ports.get(port)
        if entry is None:
            return self.unclaimed.read(size)
        device, offset = entry
        return device.pio_read(offset, size)

    def pio_write(self, port: int, size: int, value: int) -> None:
        """Write a port of 1, 2 or 4 bytes."""
        entry = self._ports.get(port)
        if entry is None:
            self.unclaimed.writes += 1
            return
        device, offset = entry
        device.pio_write(offset, size, value)

    def mmio_read(self, address: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes."""
        window = self._window(address)
        if window is None:
            return self.unclaimed.read(size)
        start, device = window
        return device.mmio_read(address - start, size)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Write 1, 2, 4 or 8 bytes."""
        window = self._window(address)
        if window is None:
            self.unclaimed.writes += 1
            return
        start, device = window
        device.mmio_write(address - start, size, value)

    def _window(self, address: int) -> tuple[int, MmioDevice] | None:
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        start, end, device = self._windows[at]
        return (start, device) if address < end else None

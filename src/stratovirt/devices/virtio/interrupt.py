"""A transport's interrupt: a level-triggered line that is high while there is something to acknowledge."""

from __future__ import annotations

import threading

from stratovirt.accel.protocol import IrqLine


class Interrupt:
    """Interrupt status (virtio 1.2 §4.2.2) and the line that follows it. Any thread."""

    def __init__(self, line: IrqLine) -> None:
        self.status = 0
        self.raised = 0
        """How often the line went up."""
        self._line = line
        self._lock = threading.Lock()

    def signal(self, bits: int) -> None:
        """Set ``bits``; the line is high from now on."""
        with self._lock:
            if not self.status:
                self.raised += 1
                self._line.set_level(True)
            self.status |= bits

    def acknowledge(self, bits: int) -> None:
        """Clear ``bits``; the line goes down with the last of them."""
        with self._lock:
            before, self.status = self.status, self.status & ~bits
            if before and not self.status:
                self._line.set_level(False)

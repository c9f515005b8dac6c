"""A machine for the tests of an accelerator: RAM, vCPUs, and a bus that records."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from stratovirt.accel.protocol import Accelerator, Bus, RunEnd
from stratovirt.memory import GuestMemory
from tests.accel.guests import RecordingBus, boot

RAM = 16 << 20
DEADLINE = 20.0
"""Seconds; far beyond what anything here takes."""


class Machine:
    """RAM, an accelerator and a recording bus. The guest's write to DONE kicks all vCPUs."""

    def __init__(
        self, make: Callable[[GuestMemory, int, Bus], Accelerator], vcpus: int = 1, ram: int = RAM
    ) -> None:
        self.memory = GuestMemory.allocate(ram)
        self.bus = RecordingBus(self.kick)
        self.accelerator = make(self.memory, vcpus, self.bus)
        self.memory.written = self.accelerator.memory_written
        self.thread = self.accelerator.threads[0]
        self.vcpu = self.accelerator.vcpus[0]

    def close(self) -> None:
        self.accelerator.close()
        self.memory.close()

    def kick(self) -> None:
        for thread in self.accelerator.threads:
            thread.kick()

    def start(self, code: bytes, handlers: Mapping[int, bytes] | None = None) -> None:
        """Load ``code`` and put vCPU 0 at its entry."""
        self.accelerator.start(boot(self.memory, code, handlers))

    def run(self, code: bytes, handlers: Mapping[int, bytes] | None = None) -> RunEnd:
        """Run ``code`` on vCPU 0, in this thread, to its end."""
        self.start(code, handlers)
        return self.thread.run()

    @contextmanager
    def running(self) -> Iterator[list[RunEnd]]:
        """All vCPUs in threads of their own; at the end they are kicked out. Gives how each ended."""
        ends: list[RunEnd] = []
        threads = [
            threading.Thread(target=lambda body=body: ends.append(body.run()), name=body.name)
            for body in self.accelerator.threads
        ]
        for thread in threads:
            thread.start()
        try:
            yield ends
        finally:
            self.kick()
            for thread in threads:
                thread.join(DEADLINE)
                assert not thread.is_alive(), "a kick was lost"

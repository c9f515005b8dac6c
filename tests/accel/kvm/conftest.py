"""A VM on /dev/kvm with one of the guests of :mod:`tests.accel.guests` in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.protocol import RunEnd
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.memory import GuestMemory
from tests.accel.guests import RecordingBus, boot

RAM = 16 << 20
DEADLINE = 20.0  # seconds; far beyond what anything here takes


class Machine:
    """RAM, an accelerator and a recording bus. The guest's write to DONE kicks all vCPUs."""

    def __init__(self, vcpus: int = 1, ram: int = RAM) -> None:
        self.memory = GuestMemory.allocate(ram)
        self.bus = RecordingBus(self.kick)
        self.accelerator = KvmAccelerator(self.memory, vcpus, self.bus)
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


@pytest.fixture
def new_machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines, and closes them."""
    try:
        KvmSystem().close()
    except AcceleratorUnavailable as reason:
        pytest.skip(str(reason))
    with ExitStack() as stack:

        def make(vcpus: int = 1, ram: int = RAM) -> Machine:
            machine = Machine(vcpus, ram)
            stack.callback(machine.close)
            return machine

        yield make


@pytest.fixture
def machine(new_machine: Callable[..., Machine]) -> Machine:
    """A machine with one vCPU."""
    return new_machine()

"""A VM on /dev/kvm with one of the guests of :mod:`tests.accel.guests` in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.accel.kvm.thread import KvmVcpuThread
from stratovirt.accel.kvm.vcpu import KvmVcpu
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorUnavailable
from tests.accel.machine import DEADLINE, RAM
from tests.accel.machine import Machine as AnyMachine

__all__ = ["DEADLINE", "Machine"]


class Machine(AnyMachine):
    """A machine on KVM."""

    accelerator: KvmAccelerator
    thread: KvmVcpuThread
    vcpu: KvmVcpu

    def __init__(self, vcpus: int = 1, ram: int = RAM, topology: Topology | None = None) -> None:
        super().__init__(partial(KvmAccelerator, topology=topology), vcpus, ram)


@pytest.fixture
def new_machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines, and closes them."""
    try:
        KvmSystem().close()
    except AcceleratorUnavailable as reason:
        pytest.skip(str(reason))
    with ExitStack() as stack:

        def make(vcpus: int = 1, ram: int = RAM, topology: Topology | None = None) -> Machine:
            machine = Machine(vcpus, ram, topology)
            stack.callback(machine.close)
            return machine

        yield make


@pytest.fixture
def machine(new_machine: Callable[..., Machine]) -> Machine:
    """A machine with one vCPU."""
    return new_machine()

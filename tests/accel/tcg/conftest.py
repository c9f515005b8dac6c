"""A machine on the software CPU with one of the guests of :mod:`tests.accel.guests` in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from stratovirt.accel.features import UNCHANGED, Features
from stratovirt.accel.tcg.accelerator import TcgAccelerator
from stratovirt.accel.topology import Topology
from tests.accel.machine import RAM, Machine


@pytest.fixture
def new_machine() -> Iterator[Callable[..., Machine]]:
    """Makes machines, and closes them."""
    with ExitStack() as stack:

        def make(
            vcpus: int = 1,
            ram: int = RAM,
            topology: Topology | None = None,
            features: Features = UNCHANGED,
        ) -> Machine:
            accelerator = partial(TcgAccelerator, topology=topology, features=features)
            machine = Machine(accelerator, vcpus, ram)
            stack.callback(machine.close)
            return machine

        yield make


@pytest.fixture
def machine(new_machine: Callable[..., Machine]) -> Machine:
    """A machine with one vCPU."""
    return new_machine()

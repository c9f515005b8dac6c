"""Queue notifications: a guest's write becomes an event, and passes the bus by."""

from __future__ import annotations

import os

import pytest

from tests.accel.guests import MMIO, Access, done, store32
from tests.accel.kvm.conftest import Machine
from tests.accel.kvm.test_interrupts import eventfd

STORES = {
    1: b"\xc6\x03\x07",  # mov byte [rbx], 7
    2: b"\x66\xc7\x03\x07\x00",
    4: b"\xc7\x03\x07\x00\x00\x00",
    8: b"\x48\xc7\x03\x07\x00\x00\x00",
}
RBX = b"\xbb" + MMIO.to_bytes(4, "little")


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("value", [7, None])
def test_write_that_matches_becomes_an_event(machine: Machine, size: int, value: int | None) -> None:
    with eventfd() as fd:
        machine.accelerator.add_ioeventfd(fd, MMIO, size, value)
        machine.run(RBX + 3 * STORES[size] + done())
        assert os.eventfd_read(fd) == 3
        machine.accelerator.remove_ioeventfd(fd, MMIO, size, value)
    assert machine.bus.accesses == []


def test_write_of_another_value_size_or_address_reaches_the_bus(machine: Machine) -> None:
    with eventfd() as fd:
        machine.accelerator.add_ioeventfd(fd, MMIO, 4, 7)
        machine.run(store32(MMIO, 8) + RBX + STORES[2] + store32(MMIO + 4, 7) + done())
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        machine.accelerator.remove_ioeventfd(fd, MMIO, 4, 7)
    assert machine.bus.accesses == [
        Access("write", MMIO, 4, 8),
        Access("write", MMIO, 2, 7),
        Access("write", MMIO + 4, 4, 7),
    ]


def test_two_queues_share_an_address_by_value(machine: Machine) -> None:
    with eventfd() as first, eventfd() as second:
        machine.accelerator.add_ioeventfd(first, MMIO, 4, 0)
        machine.accelerator.add_ioeventfd(second, MMIO, 4, 1)
        machine.run(store32(MMIO, 0) + store32(MMIO, 1) + store32(MMIO, 1) + done())
        assert (os.eventfd_read(first), os.eventfd_read(second)) == (1, 2)
        machine.accelerator.remove_ioeventfd(first, MMIO, 4, 0)
        machine.accelerator.remove_ioeventfd(second, MMIO, 4, 1)


def test_removed_event_goes_to_the_bus_again(machine: Machine) -> None:
    with eventfd() as fd:
        machine.accelerator.add_ioeventfd(fd, MMIO, 4, None)
        machine.accelerator.remove_ioeventfd(fd, MMIO, 4, None)
        machine.run(store32(MMIO, 9) + done())
    assert machine.bus.accesses == [Access("write", MMIO, 4, 9)]


def test_removing_what_was_never_added_is_an_error(machine: Machine) -> None:
    with eventfd() as fd, pytest.raises(OSError, match="KVM_IOEVENTFD"):
        machine.accelerator.remove_ioeventfd(fd, MMIO, 4, None)

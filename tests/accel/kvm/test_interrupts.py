"""Interrupt lines, irqfds, messages and timers reach the guest's handlers."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.accel.guests import (
    EOI,
    HALT_FOREVER,
    IRETQ,
    enable_lapic,
    load_idt,
    mask_pics,
    out_byte,
    route_ioapic,
    store32,
)
from tests.accel.kvm.conftest import DEADLINE, Machine

READY, HANDLED, BARRIER = 0x80, 0x81, 0x82
VECTOR, LOWER_VECTOR = 0x35, 0x25
HANDLER = {VECTOR: out_byte(HANDLED, 1) + store32(EOI, 0) + IRETQ}
LOWER_HANDLER = {LOWER_VECTOR: out_byte(BARRIER, 1) + store32(EOI, 0) + IRETQ}


def waiting_guest(*setup: bytes) -> bytes:
    """Set up, tell READY, then halt with interrupts on."""
    return load_idt() + mask_pics() + enable_lapic() + b"".join(setup) + out_byte(READY, 1) + HALT_FOREVER


@contextmanager
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def wait_ready(machine: Machine) -> None:
    machine.bus.wait_for(lambda: machine.bus.outs(READY) == [1])


def wait_handled(machine: Machine, times: int) -> None:
    machine.bus.wait_for(lambda: len(machine.bus.outs(HANDLED)) >= times)


@pytest.mark.parametrize("gsi", [5, 23])
def test_edge_on_an_ioapic_input_runs_the_handler_once_per_rise(machine: Machine, gsi: int) -> None:
    machine.start(waiting_guest(route_ioapic(gsi, VECTOR)), HANDLER)
    line = machine.accelerator.irq_line(gsi)
    with machine.running():
        wait_ready(machine)
        for count in (1, 2, 3):
            line.set_level(True)
            line.set_level(False)
            wait_handled(machine, count)
    assert machine.bus.outs(HANDLED) == [1, 1, 1]


def test_level_fires_again_until_the_line_falls(machine: Machine) -> None:
    """Once more at most: kvm_pvm ends an interrupt when it injects it, so the next is on its way by then."""
    line, barrier = machine.accelerator.irq_line(16), machine.accelerator.irq_line(23)

    def fall_at_the_third(_value: int) -> None:
        if len(machine.bus.outs(HANDLED)) == 2:
            line.set_level(False)

    machine.bus.reactions[HANDLED] = fall_at_the_third
    routes = route_ioapic(16, VECTOR, level=True) + route_ioapic(23, LOWER_VECTOR)
    machine.start(waiting_guest(routes), HANDLER | LOWER_HANDLER)
    with machine.running():
        wait_ready(machine)
        line.set_level(True)
        wait_handled(machine, 3)
        barrier.set_level(True)  # handled when nothing of higher priority is left
        machine.bus.wait_for(lambda: machine.bus.outs(BARRIER) == [1])
    assert len(machine.bus.outs(HANDLED)) in (3, 4)


def test_line_reaches_the_pic_of_the_boot_cpu(machine: Machine) -> None:
    """The 8259 works from power-on: LINT0 of the boot CPU's local APIC is ExtINT."""
    initialise = b"".join(
        out_byte(port, value) for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01))
    )
    unmask_irq4 = out_byte(0x21, 0xEF)
    handler = {0x24: out_byte(HANDLED, 4) + out_byte(0x20, 0x20) + IRETQ}
    machine.start(load_idt() + initialise + unmask_irq4 + out_byte(READY, 1) + HALT_FOREVER, handler)
    with machine.running():
        wait_ready(machine)
        machine.accelerator.irq_line(4).set_level(True)
        wait_handled(machine, 1)
    assert machine.bus.outs(HANDLED) == [4]


def test_timer_chip_is_on_ioapic_input_2(machine: Machine) -> None:
    count = 1193  # of 1.193182 MHz: 1 ms
    rate_generator = out_byte(0x43, 0x34) + out_byte(0x40, count & 0xFF) + out_byte(0x40, count >> 8)
    machine.start(waiting_guest(route_ioapic(2, VECTOR), rate_generator), HANDLER)
    with machine.running():
        wait_handled(machine, 3)
    assert machine.bus.outs(READY) == [1]


def test_irqfd_runs_the_handler(machine: Machine) -> None:
    with eventfd() as fd:
        machine.accelerator.add_irqfd(fd, 5)
        machine.start(waiting_guest(route_ioapic(5, VECTOR)), HANDLER)
        with machine.running():
            wait_ready(machine)
            for count in (1, 2):
                os.eventfd_write(fd, 1)
                wait_handled(machine, count)
        machine.accelerator.remove_irqfd(fd, 5)
        os.eventfd_write(fd, 1)
        assert os.eventfd_read(fd) == 1, "a removed irqfd is an eventfd like any other"
    assert machine.bus.outs(HANDLED) == [1, 1]


def test_level_irqfd_asks_again_at_the_end_of_each_interrupt(machine: Machine) -> None:
    with eventfd() as fd, eventfd() as resample, select.epoll() as poll:
        poll.register(resample, select.EPOLLIN)
        machine.accelerator.add_irqfd(fd, 17, resample)
        machine.start(waiting_guest(route_ioapic(17, VECTOR, level=True)), HANDLER)
        with machine.running():
            wait_ready(machine)
            for count in (1, 2):
                os.eventfd_write(fd, 1)
                wait_handled(machine, count)
                assert poll.poll(DEADLINE), "the end of interrupt was not told"
                os.eventfd_read(resample)
        machine.accelerator.remove_irqfd(fd, 17)
    assert machine.bus.outs(HANDLED) == [1, 1]


def test_irqfd_is_refused_twice(machine: Machine) -> None:
    with eventfd() as fd:
        machine.accelerator.add_irqfd(fd, 5)
        with pytest.raises(OSError, match="KVM_IRQFD"):
            machine.accelerator.add_irqfd(fd, 5)
        machine.accelerator.remove_irqfd(fd, 5)


def test_message_signalled_interrupt_runs_the_handler(machine: Machine) -> None:
    machine.start(waiting_guest(), HANDLER)
    with machine.running():
        wait_ready(machine)
        assert machine.accelerator.vm.signal_msi(0xFEE0_0000, VECTOR)
        wait_handled(machine, 1)
    assert machine.bus.outs(HANDLED) == [1]

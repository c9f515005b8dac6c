"""virtio-rng hands out what its source has, no faster than allowed, and lets nobody wait but the guest."""

from __future__ import annotations

import os
import select
import tty
from collections.abc import Iterator

import pytest

from stratovirt.devices.virtio.rng import VirtioRng
from tests.device.virtio import DriverRig, driving

PATIENCE = 10  # seconds


@pytest.fixture
def source() -> Iterator[tuple[int, int]]:
    """A character device that has nothing to give until it is written to: the reader's end, the writer's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    yield slave, master
    os.close(master)
    os.close(slave)


def until_used(rig: DriverRig) -> bytes:
    while not (used := rig.queue(0).collect()):
        assert select.select(list(rig.reactor.ready), [], [], PATIENCE)[0], "nothing happens any more"
        rig.serve()
    return used[0].data


def test_each_buffer_is_filled_with_bytes_of_the_source() -> None:
    with open("/dev/zero", "rb") as zero, driving(VirtioRng(zero.fileno())) as rig:
        rig.negotiate()
        for size in (1, 64, 512):
            assert rig.queue(0).send(into=[size]).data == bytes(size)


def test_a_source_with_little_gives_little_and_one_with_nothing_lets_the_guest_wait(
    source: tuple[int, int],
) -> None:
    reader, writer = source
    with driving(VirtioRng(reader)) as rig:
        rig.negotiate()
        rig.queue(0).offer(into=[64])
        rig.serve()
        assert rig.queue(0).collect() == []
        os.write(writer, b"entropy")
        assert until_used(rig) == b"entropy"


def test_who_waits_for_the_source_is_served_by_the_next_reactor(source: tuple[int, int]) -> None:
    reader, writer = source
    with driving(VirtioRng(reader)) as rig:
        rig.negotiate()
        rig.queue(0).offer(into=[64])
        rig.serve()
        rig.transport.detach(rig.reactor)
        assert rig.reactor.ready == {}
        os.write(writer, b"entropy")
        rig.transport.attach(rig.reactor)
        assert until_used(rig) == b"entropy"


def test_no_more_than_the_limit_is_given_per_period() -> None:
    with open("/dev/zero", "rb") as zero, driving(VirtioRng(zero.fileno(), 10, period=3600)) as rig:
        rig.negotiate()
        assert rig.queue(0).send(into=[8]).data == bytes(8)
        assert rig.queue(0).send(into=[8]).data == bytes(2)
        rig.queue(0).offer(into=[8])
        rig.serve()
        assert rig.queue(0).collect() == []


def test_the_next_period_serves_who_waits_for_it() -> None:
    with open("/dev/zero", "rb") as zero, driving(VirtioRng(zero.fileno(), 10, period=0.01)) as rig:
        rig.negotiate()
        given = 0
        for _ in range(5):
            rig.queue(0).offer(into=[8])
            given += len(until_used(rig))
        assert given > 10


def test_a_request_that_waits_is_forgotten_with_the_driver(source: tuple[int, int]) -> None:
    reader, writer = source
    with driving(VirtioRng(reader)) as rig:
        rig.negotiate()
        rig.queue(0).offer(into=[64])
        rig.serve()
        rig.negotiate()
        os.write(writer, b"entropy")
        rig.serve()
        rig.queue(0).offer(into=[64])
        assert until_used(rig) == b"entropy"


def test_a_source_that_ends_or_fails_gives_nothing_and_raises_nothing() -> None:
    with open("/dev/null", "wb") as unreadable, driving(VirtioRng(unreadable.fileno())) as rig:
        rig.negotiate()
        rig.queue(0).offer(into=[64])
        rig.serve()
        assert rig.queue(0).collect() == []

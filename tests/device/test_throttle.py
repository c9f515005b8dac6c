"""A throttled disk carries out what its rate allows and no more, and nothing is lost meanwhile."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.blkrequest import T_IN
from stratovirt.devices.virtio.blkthrottle import BURST_SECONDS, Throttle
from tests.device.test_virtio_blk import OK, FakeDisk, request
from tests.device.virtio import driving

WITHIN = 30  # seconds


@given(
    rate=st.integers(1, 1_000_000),
    steps=st.lists(st.floats(0, 3), min_size=1, max_size=50),
    greedy=st.booleans(),
)
def test_no_stretch_of_time_has_more_requests_than_its_rate_and_a_burst(
    rate: int, steps: list[float], greedy: bool
) -> None:
    now = 1000.0
    throttle = Throttle(rate, lambda: now)
    begun: list[float] = []
    for step in steps:
        now += throttle.wait() if greedy else step
        for _ in range(20):
            if throttle.wait() <= 1e-9:
                throttle.take()
                begun.append(now)
    assert begun, "the first may begin at once"
    for number, first in enumerate(begun):
        for count, last in enumerate(begun[number:], 1):
            assert count <= max(BURST_SECONDS * rate, 1) + rate * (last - first) + 1.001


def test_who_waits_as_long_as_told_may_begin() -> None:
    now = 0.0
    throttle = Throttle(3, lambda: now)
    for _ in range(100):
        now += throttle.wait()
        assert throttle.wait() < 1e-9
        throttle.take()
    assert 32 < now < 34, "a hundred at three per second"


def test_what_comes_too_early_stays_in_its_queue_until_it_is_time() -> None:
    disk = FakeDisk()
    disk.iops = 100
    with driving(VirtioBlock("disk", disk)) as rig:
        rig.negotiate()
        for sector in range(20):
            rig.queue(0).offer([request(T_IN, sector)], [512, 1])
        rig.serve()
        used = rig.queue(0).collect()
        assert 0 < len(used) < 20
        deadline = time.monotonic() + WITHIN
        while len(used) < 20:
            assert time.monotonic() < deadline
            rig.serve()
            used += rig.queue(0).collect()
        assert [one.data[:1] + one.data[-1:] for one in used] == [bytes([n]) + OK for n in range(20)]


def test_draining_does_not_wait() -> None:
    disk = FakeDisk()
    disk.iops = 1
    with driving(VirtioBlock("disk", disk, queues=2)) as rig:
        rig.negotiate()
        for number in range(10):
            rig.queue(number % 2).offer([request(T_IN)], [512, 1])
        rig.serve()
        rig.transport.drain()
        assert len(rig.queue(0).collect() + rig.queue(1).collect()) == 10


def test_a_reset_forgets_what_waits() -> None:
    disk = FakeDisk()
    disk.iops = 1
    with driving(VirtioBlock("disk", disk)) as rig:
        rig.negotiate()
        for _ in range(3):
            rig.queue(0).offer([request(T_IN)], [512, 1])
        rig.serve()
        asked = len(disk.asked)
        rig.negotiate()
        rig.transport.drain()
        assert len(disk.asked) == asked

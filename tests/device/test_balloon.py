"""The balloon discards what the driver names, if it is RAM, and tells what the driver says of itself."""

from __future__ import annotations

import mmap
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio.balloon import (
    DEFLATE_ON_OOM,
    EVENT_SECONDS,
    PAGE_REPORTING,
    STATS_VQ,
    VirtioBalloon,
    runs,
)
from stratovirt.devices.virtio.constants import CONFIG_CHANGE, NEEDS_RESET
from stratovirt.devices.virtio.mmio import CONFIG, INTERRUPT_STATUS, STATUS
from tests.device.virtio import MEMORY, DriverRig, driving

INFLATE, DEFLATE, STATISTICS, REPORTING = range(4)
NUM_PAGES, ACTUAL = 0, 4
PAGE = 4096
MIB = 1 << 20
DATA = 0x400_0000  # of the guest's


def balloon(rig: DriverRig) -> VirtioBalloon:
    assert isinstance(rig.device, VirtioBalloon)
    return rig.device


def numbers(*pages: int) -> bytes:
    return struct.pack(f"<{len(pages)}I", *pages)


def dirty(rig: DriverRig, pages: int) -> None:
    rig.memory.write(DATA, b"x" * pages * PAGE)


def clean_pages(rig: DriverRig, pages: int) -> list[int]:
    """Which of the pages from DATA on read zero."""
    contents = (rig.memory.read(DATA + number * PAGE, PAGE) for number in range(pages))
    return [number for number, content in enumerate(contents) if content == bytes(PAGE)]


def set_actual(rig: DriverRig, pages: int) -> None:
    rig.transport.mmio_write(CONFIG + ACTUAL, 4, pages)


def test_features_are_as_asked_for() -> None:
    for options, features in (
        ({}, 0),
        ({"deflate_on_oom": True}, DEFLATE_ON_OOM),
        ({"page_reporting": True}, PAGE_REPORTING),
        ({"statistics_seconds": 5}, STATS_VQ),
    ):
        device = VirtioBalloon(MEMORY, **options)
        assert device.features == features
        device.close()


def test_pages_that_the_guest_does_without_are_discarded_and_no_others() -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        dirty(rig, 8)
        first = DATA // PAGE
        rig.queue(INFLATE).send([numbers(first + 5, first + 2, first + 1, first + 2)])
        assert clean_pages(rig, 8) == [1, 2, 5]
        rig.queue(DEFLATE).send([numbers(first + 5)])
        assert clean_pages(rig, 8) == [1, 2, 5]


@given(st.lists(st.integers(0, 0xFFFF_FFFF), max_size=32), st.binary(max_size=3))
def test_pages_that_are_not_ram_are_passed_over(pages: list[int], rest: bytes) -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        dirty(rig, 2)
        outside = [page for page in pages if page >= MEMORY // PAGE]
        request = numbers(*outside, DATA // PAGE) + rest
        rig.queue(INFLATE).send([request])
        assert clean_pages(rig, 2) == [0]
        assert not rig.read(STATUS) & NEEDS_RESET


@given(st.sets(st.integers(0, 300)))
def test_runs_are_the_same_numbers_in_fewer_pieces(wanted: set[int]) -> None:
    found = list(runs(sorted(wanted)))
    assert [first + more for first, count in found for more in range(count)] == sorted(wanted)
    assert all(first + count < later for (first, count), (later, _) in pairwise(found))


def test_reported_pages_are_discarded() -> None:
    with driving(VirtioBalloon(MEMORY, page_reporting=True, statistics_seconds=3600)) as rig:
        rig.negotiate()
        rig._next_buffer = DATA
        dirty(rig, 3)
        rig.queue(REPORTING).send(into=[2 * PAGE])
        assert clean_pages(rig, 3)[:2] == [0, 1]


def test_the_reporting_queue_comes_earlier_when_the_driver_wants_no_statistics() -> None:
    with driving(VirtioBalloon(MEMORY, page_reporting=True, statistics_seconds=3600)) as rig:
        rig.negotiate(PAGE_REPORTING)
        rig._next_buffer = DATA
        dirty(rig, 1)
        rig.queue(STATISTICS).send(into=[PAGE])
        assert clean_pages(rig, 1) == [0]


def test_a_queue_of_a_feature_that_was_not_negotiated_breaks_the_device() -> None:
    with driving(VirtioBalloon(MEMORY, page_reporting=True)) as rig:
        rig.negotiate(0)
        rig.queue(STATISTICS).offer([b"x"])
        rig.serve()
        assert rig.read(STATUS) & NEEDS_RESET


def test_the_driver_sees_the_target_and_is_told_when_it_changes() -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        balloon(rig).set_target(MEMORY - 3 * MIB)
        assert rig.config(NUM_PAGES, 4) == 3 * MIB // PAGE
        assert rig.read(INTERRUPT_STATUS) == CONFIG_CHANGE
        balloon(rig).set_target(MEMORY + MIB)
        assert rig.config(NUM_PAGES, 4) == 0


@pytest.mark.parametrize(("pages", "actual"), [(256, MEMORY - MIB), (0xFFFF_FFFF, 0)])
def test_what_the_driver_says_is_believed_as_far_as_it_can_be(pages: int, actual: int) -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        set_actual(rig, pages)
        assert balloon(rig).actual == actual


def test_a_move_is_told_at_once_and_further_ones_together_later() -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        told: list[int] = []
        balloon(rig).moved = told.append
        rig.negotiate()
        for pages in (256, 512, 768):
            set_actual(rig, pages)
            rig.serve()
        assert told == [MEMORY - MIB]
        balloon(rig)._on_event_timer()
        balloon(rig)._on_event_timer()
        assert told == [MEMORY - MIB, MEMORY - 3 * MIB]
        assert EVENT_SECONDS == 1


def test_a_driver_that_resets_the_device_has_its_pages_back_and_the_target_stays() -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        balloon(rig).set_target(MEMORY - MIB)
        set_actual(rig, 256)
        rig.negotiate()
        assert balloon(rig).actual == MEMORY
        assert rig.config(NUM_PAGES, 4) == 256


FREE, TOTAL, UNKNOWN = 4, 5, 99


def statistics(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<HQ", *pair) for pair in pairs)


def test_statistics_are_asked_for_by_giving_the_buffer_back() -> None:
    with driving(VirtioBalloon(MEMORY, statistics_seconds=3600)) as rig:
        rig.negotiate()
        queue = rig.queue(STATISTICS)
        queue.offer([statistics((FREE, 5 * MIB), (UNKNOWN, 1), (TOTAL, 9 * MIB)) + b"rest"])
        rig.serve()
        assert queue.collect() == [], "kept until the next are wanted"
        said = balloon(rig).statistics
        assert said is not None
        assert said.values == {"free-memory": 5 * MIB, "total-memory": 9 * MIB}
        balloon(rig)._ask_for_statistics()
        assert len(queue.collect()) == 1
        balloon(rig)._ask_for_statistics()
        assert queue.collect() == [], "the driver has not answered yet"


def test_a_driver_that_offers_two_buffers_for_statistics_gets_the_first_back() -> None:
    with driving(VirtioBalloon(MEMORY, statistics_seconds=3600)) as rig:
        rig.negotiate()
        first = rig.queue(STATISTICS).offer([statistics((FREE, 1))])
        rig.queue(STATISTICS).offer([statistics((FREE, 2))])
        rig.serve()
        assert [used.head for used in rig.queue(STATISTICS).collect()] == [first]


def test_a_saved_balloon_goes_on_where_it_was() -> None:
    with driving(VirtioBalloon(MEMORY, statistics_seconds=3600)) as rig:
        rig.negotiate()
        balloon(rig).set_target(MEMORY - MIB)
        set_actual(rig, 128)
        rig.queue(STATISTICS).offer([statistics((FREE, 1))])
        rig.serve()
        saved, transport = rig.device.save(), rig.transport.save()
        other = VirtioBalloon(MEMORY, statistics_seconds=3600)
        with driving(other) as there:
            there.memory.write(0, rig.memory.read(0, DATA))
            there.transport.load(there.transport.state_version, transport)
            other.load(other.state_version, saved)
            assert other.actual == MEMORY - 128 * PAGE
            assert there.config(NUM_PAGES, 4) == 256
            other._ask_for_statistics()
            given_back = there.transport.save()["queues"][STATISTICS]["used"]
            assert given_back == 1, "the buffer that was held over the snapshot"


def test_discarded_pages_go_back_to_the_host() -> None:
    with driving(VirtioBalloon(MEMORY)) as rig:
        rig.negotiate()
        pages = 32 * MIB // PAGE
        dirty(rig, pages)
        before = resident()
        for first in range(DATA // PAGE, DATA // PAGE + pages, 256):
            rig.queue(INFLATE).send([numbers(*reversed(range(first, first + 256)))])
        assert before - resident() > 25 * MIB


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE

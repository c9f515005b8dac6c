"""The block device: each request does what it says, its status is true, and nothing else is touched."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices.virtio import blk, mmio
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.blkrequest import (
    MAX_RANGE_SECTORS,
    T_DISCARD,
    T_FLUSH,
    T_GET_ID,
    T_IN,
    T_OUT,
    T_WRITE_ZEROES,
)
from stratovirt.devices.virtio.constants import CONFIG_CHANGE, NEEDS_RESET, VERSION_1
from tests.device.virtio import DriverRig, driving

OK, IOERR, UNSUPP = b"\x00", b"\x01", b"\x02"
SECTORS = 64
CONTENT = b"".join(bytes([number]) * 512 for number in range(SECTORS))


class FakeDisk:
    """A disk in memory that notes what is asked of it, and fails when told to."""

    def __init__(self, content: bytes = CONTENT, *, read_only: bool = False) -> None:
        self.content = bytearray(content)
        self.size = len(content)
        self.read_only = read_only
        self.iops = 0
        self.file: int | None = None
        self.asked: list[object] = []
        self.error = 0

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        self._note("read", offset, sum(map(len, segments)))
        for segment in segments:
            segment[:] = self.content[offset : offset + len(segment)]
            offset += len(segment)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        self._note("write", offset, sum(map(len, segments)))
        for segment in segments:
            self.content[offset : offset + len(segment)] = segment
            offset += len(segment)

    def flush(self) -> None:
        self._note("flush")

    def discard(self, offset: int, length: int) -> None:
        self._note("discard", offset, length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self._note("zero", offset, length, unmap)

    def close(self) -> None: ...

    def _note(self, *what: object) -> None:
        self.asked.append(what)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def rig(disk: FakeDisk) -> Iterator[DriverRig]:
    with driving(VirtioBlock("disk", disk, "serial-1")) as rig:
        rig.negotiate()
        yield rig


def request(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def a_range(sector: int, sectors: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, sectors, flags)


def test_a_read_fills_the_buffers_from_the_sector_on(rig: DriverRig, disk: FakeDisk) -> None:
    used = rig.queue(0).send([request(T_IN, 3)], [512, 1024, 1])
    assert used.data == CONTENT[3 * 512 : 6 * 512] + OK
    assert disk.asked == [("read", 3 * 512, 1536)], "in one request"


def test_a_write_stores_the_buffers(rig: DriverRig, disk: FakeDisk) -> None:
    assert rig.queue(0).send([request(T_OUT, 2), b"a" * 512, b"b" * 512], [1]).data == OK
    assert disk.content == CONTENT[:1024] + b"a" * 512 + b"b" * 512 + CONTENT[2048:]


@given(
    head=st.integers(1, 15),
    body=st.integers(1, 1023),
    back=st.integers(1, 1023),
    together=st.booleans(),
)
def test_a_driver_may_cut_a_request_where_it_likes(head: int, body: int, back: int, together: bool) -> None:
    """Virtio 1.2 §2.6.4: no framing may be assumed."""
    disk = FakeDisk()
    with driving(VirtioBlock("disk", disk)) as rig:
        rig.negotiate()
        whole = request(T_OUT, 1) + b"x" * 1024
        parts = [whole[:head], whole[head : 16 + body], whole[16 + body :]]
        assert rig.queue(0).send(parts, [1]).data == OK
        assert disk.content == CONTENT[:512] + b"x" * 1024 + CONTENT[1536:]
        into = [1025] if together else [back, 1025 - back]
        assert rig.queue(0).send([whole[:0] + request(T_IN, 1)], into).data == b"x" * 1024 + OK


@pytest.mark.parametrize(
    ("out", "into", "status"),
    [
        ([request(T_IN, SECTORS)], [512, 1], IOERR),
        ([request(T_IN, SECTORS - 1)], [1024, 1], IOERR),
        ([request(T_IN, (1 << 64) - 1)], [512, 1], IOERR),
        ([request(T_IN, 0)], [100, 1], IOERR),
        ([request(T_OUT, SECTORS), bytes(512)], [1], IOERR),
        ([request(T_OUT, 0), bytes(511)], [1], IOERR),
        ([request(T_DISCARD), a_range(SECTORS, 1)], [1], IOERR),
        ([request(T_DISCARD), a_range(0, MAX_RANGE_SECTORS + 1)], [1], IOERR),
        ([request(T_DISCARD), a_range(0, 1, flags=1)], [1], UNSUPP),
        ([request(T_DISCARD), a_range(0, 1) * 2], [1], UNSUPP),
        ([request(T_DISCARD)], [1], UNSUPP),
        ([request(T_WRITE_ZEROES), a_range(1, SECTORS)], [1], IOERR),
        ([request(T_WRITE_ZEROES), a_range(0, 1, flags=2)], [1], UNSUPP),
        ([request(99)], [1], UNSUPP),
    ],
)
def test_what_no_disk_could_do_never_reaches_it(
    rig: DriverRig, disk: FakeDisk, out: list[bytes], into: list[int], status: bytes
) -> None:
    assert rig.queue(0).send(out, into).data[-1:] == status
    assert disk.asked == []
    assert rig.queue(0).send([request(T_FLUSH)], [1]).data == OK, "and the queue goes on"


@pytest.mark.parametrize(("out", "into"), [([request(T_IN)[:15]], [1]), ([request(T_FLUSH)], []), ([], [1])])
def test_what_is_no_request_breaks_the_queue(rig: DriverRig, out: list[bytes], into: list[int]) -> None:
    rig.queue(0).offer(out, into)
    rig.serve()
    assert rig.read(mmio.STATUS) & NEEDS_RESET


def test_flush_discard_and_write_zeroes_are_handed_on(rig: DriverRig, disk: FakeDisk) -> None:
    queue = rig.queue(0)
    assert queue.send([request(T_FLUSH)], [1]).data == OK
    assert queue.send([request(T_DISCARD), a_range(8, 16)], [1]).data == OK
    assert queue.send([request(T_WRITE_ZEROES), a_range(1, 2)], [1]).data == OK
    assert queue.send([request(T_WRITE_ZEROES), a_range(3, 4, flags=1)], [1]).data == OK
    assert disk.asked == [
        ("flush",),
        ("discard", 4096, 8192),
        ("zero", 512, 1024, False),
        ("zero", 1536, 2048, True),
    ]


@pytest.mark.parametrize(("serial", "told"), [("abc", b"abc" + bytes(17)), ("x" * 30, b"x" * 20)])
def test_the_serial_number_has_20_bytes(serial: str, told: bytes) -> None:
    with driving(VirtioBlock("disk", FakeDisk(), serial)) as rig:
        rig.negotiate()
        assert rig.queue(0).send([request(T_GET_ID)], [20, 1]).data == told + OK


def test_a_read_only_disk_is_announced_and_refuses_all_that_writes() -> None:
    disk = FakeDisk(read_only=True)
    with driving(VirtioBlock("disk", disk)) as rig:
        assert rig.offered() & blk.RO
        rig.negotiate()
        for kind, data in ((T_OUT, bytes(512)), (T_DISCARD, a_range(0, 1)), (T_WRITE_ZEROES, a_range(0, 1))):
            assert rig.queue(0).send([request(kind), data], [1]).data == IOERR
        assert rig.queue(0).send([request(T_FLUSH)], [1]).data == OK
    assert disk.asked == []


def test_an_error_of_the_host_is_an_io_error_to_the_guest_and_a_line_in_the_log(
    rig: DriverRig, disk: FakeDisk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.error = errno.ENOSPC
    with caplog.at_level(logging.ERROR):
        for _ in range(9):
            assert rig.queue(0).send([request(T_OUT, 5), bytes(512)], [1]).data == IOERR
    assert "disk: write at sector 5: No space left on device" in caplog.text
    assert len(caplog.records) == 4, "the 1st, 2nd, 4th and 8th: a guest must not fill the log"
    disk.error = 0
    assert rig.queue(0).send([request(T_OUT, 5), bytes(512)], [1]).data == OK


def test_what_was_done_is_counted(rig: DriverRig, disk: FakeDisk) -> None:
    queue = rig.queue(0)
    queue.send([request(T_IN)], [1024, 1])
    queue.send([request(T_IN)], [512, 1])
    queue.send([request(T_OUT), bytes(512)], [1])
    queue.send([request(T_FLUSH)], [1])
    queue.send([request(T_DISCARD), a_range(0, 2)], [1])
    queue.send([request(T_IN, SECTORS)], [512, 1])
    disk.error = errno.EIO
    queue.send([request(T_OUT), bytes(512)], [1])
    assert isinstance(rig.device, VirtioBlock)
    stats = rig.device.stats
    assert [(one.operations, one.bytes) for one in (stats.reads, stats.writes)] == [(2, 1536), (1, 512)]
    assert (stats.flushes.operations, stats.discards.bytes) == (1, 1024)
    assert (stats.reads.invalid, stats.reads.failed) == (1, 0)
    assert (stats.writes.invalid, stats.writes.failed) == (0, 1)
    assert stats.reads.nanoseconds > 0


CAPACITY, SEG_MAX_AT, BLK_SIZE_AT, PHYSICAL_AT, QUEUES_AT = 0, 12, 20, 24, 34


def test_the_config_space_tells_the_disk() -> None:
    device = VirtioBlock(
        "disk", FakeDisk(), queues=3, queue_size=128, block_size=512, physical_block_size=4096
    )
    with driving(device) as rig:
        assert rig.config(CAPACITY, 8) == SECTORS
        assert rig.config(SEG_MAX_AT, 4) == 126
        assert rig.config(BLK_SIZE_AT, 4) == 512
        assert rig.config(PHYSICAL_AT, 1) == 3
        assert rig.config(QUEUES_AT, 2) == 3
        assert rig.offered() & blk.MQ
        rig.negotiate()
        for index in range(3):
            assert rig.queue(index).send([request(T_IN, index)], [512, 1]).data[:1] == bytes([index])


def test_an_empty_slot_has_no_capacity_and_answers_with_errors(rig: DriverRig) -> None:
    with driving(VirtioBlock("slot")) as rig:
        assert rig.config(CAPACITY, 8) == 0
        rig.negotiate()
        assert rig.queue(0).send([request(T_IN)], [512, 1]).data[-1:] == IOERR
        assert rig.queue(0).send([request(T_FLUSH)], [1]).data == IOERR


def test_a_disk_comes_into_an_empty_slot_and_goes_again(disk: FakeDisk) -> None:
    slot = VirtioBlock("slot")
    with driving(slot) as rig:
        rig.negotiate()
        generation = rig.read(mmio.CONFIG_GENERATION)
        assert not slot.blocking
        slot.plug(disk, "new")
        assert slot.blocking
        assert rig.read(mmio.INTERRUPT_STATUS) & CONFIG_CHANGE
        assert rig.read(mmio.CONFIG_GENERATION) != generation
        assert rig.config(CAPACITY, 8) == SECTORS
        assert rig.queue(0).send([request(T_IN, 1)], [512, 1]).data == CONTENT[512:1024] + OK
        rig.write(mmio.INTERRUPT_ACK, CONFIG_CHANGE)
        slot.unplug()
        assert rig.read(mmio.INTERRUPT_STATUS) & CONFIG_CHANGE
        assert rig.config(CAPACITY, 8) == 0
        assert rig.queue(0).send([request(T_IN, 1)], [512, 1]).data[-1:] == IOERR


@pytest.mark.parametrize("how", ["the driver switches it off", "the driver knows no flushes"])
def test_without_a_write_cache_each_write_is_flushed(how: str, disk: FakeDisk) -> None:
    with driving(VirtioBlock("disk", disk)) as rig:
        if how == "the driver knows no flushes":
            rig.negotiate(VERSION_1)
        else:
            rig.negotiate()
            rig.transport.mmio_write(mmio.CONFIG + blk.WRITEBACK, 1, 0)
        rig.queue(0).send([request(T_OUT), bytes(512)], [1])
        assert disk.asked == [("write", 0, 512), ("flush",)]
        rig.negotiate()
        rig.queue(0).send([request(T_OUT), bytes(512)], [1])
        assert disk.asked[2:] == [("write", 0, 512)], "a reset switches it on again"


@given(
    kind=st.sampled_from([T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES, 2, 99]),
    sector=st.one_of(st.integers(0, SECTORS + 1), st.integers(0, (1 << 64) - 1)),
    out=st.lists(st.binary(min_size=1, max_size=600), max_size=4),
    into=st.lists(st.integers(1, 1024), max_size=4),
)
def test_any_request_has_an_answer_or_breaks_its_queue(
    kind: int, sector: int, out: list[bytes], into: list[int]
) -> None:
    disk = FakeDisk()
    with driving(VirtioBlock("disk", disk)) as rig:
        rig.negotiate()
        rig.queue(0).offer([request(kind, sector), *out], into)
        rig.serve()
        answers = rig.queue(0).collect()
        assert len(disk.content) == disk.size, "nothing beyond its end"
        if rig.read(mmio.STATUS) & NEEDS_RESET:
            assert not into
        else:
            [used] = answers
            assert used.data[-1:] in (OK, IOERR, UNSUPP)

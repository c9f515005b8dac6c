"""Reads and writes in C: whatever is in the rings, the outcome is that of the readable code in Python.

tests/device/test_virtio_blk.py says what that is; here a machine whose disk C may serve and one whose disk
Python serves are given the same guest memory and the same image.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratovirt.native._native import ffi

from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import RawDisk, open_raw
from stratovirt.devices.virtio import blk, mmio
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.blknative import BATCH
from stratovirt.devices.virtio.blkrequest import HEADER, T_FLUSH, T_GET_ID, T_IN, T_OUT
from stratovirt.devices.virtio.constants import (
    NEEDS_RESET,
    RING_EVENT_IDX,
    RING_INDIRECT_DESC,
    USED_BUFFER,
)
from stratovirt.native.block import Block, End
from stratovirt.native.queue import Queue
from tests.device.virtio import BUFFERS, INDIRECT, MEMORY, NEXT, RINGS, WRITE, DriverRig, driving

SECTORS = 64
WRITABLE = DiskOptions()
ENTRIES = 16
ARENA = 0x1_0000  # bytes of guest memory from BUFFERS on that the driver uses
TABLE = BUFFERS + ARENA - 0x1000  # where its indirect descriptors are


class Listener:
    """A ``struct native_written`` that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self._function = ffi.callback("void(void *, uint64_t, uint64_t)", self._call)
        self._words = ffi.new("uintptr_t[2]", [0, int(ffi.cast("uintptr_t", self._function))])
        self.address = int(ffi.cast("uintptr_t", self._words))

    def written(self, gpa: int, length: int) -> None:
        self.told.append((gpa, length))

    def _call(self, _owner: object, gpa: int, length: int) -> None:
        self.written(gpa, length)


class Side:
    """A disk with its image and its driver.

    :param native: may C serve it?
    """

    def __init__(self, rig: DriverRig, image: Path, *, native: bool) -> None:
        self.rig, self.image = rig, image
        self.listener = Listener()
        rig.memory.written = self.listener.written
        if native:
            rig.allow_native(self.listener.address)
        rig.memory.write(BUFFERS, b"\xee" * ARENA)
        self.listener.told.clear()
        assert isinstance(rig.device, VirtioBlock)
        self.stats = rig.device.stats

    def outcome(self) -> dict[str, object]:
        """All that can be told of what it has done."""
        counters = (self.stats.reads, self.stats.writes, self.stats.flushes, self.stats.discards)
        return {
            "arena": self.rig.memory.read(BUFFERS, ARENA),
            "rings": self.rig.memory.read(RINGS, 0x1_0000),
            "image": self.image.read_bytes(),
            "told": self.listener.told,
            "counts": [(each.operations, each.bytes, each.failed, each.invalid) for each in counters],
            "interrupts": self.rig.irq.rises,
            "broken": self.rig.read(mmio.STATUS) & NEEDS_RESET,
        }


@contextmanager
def twins(
    directory: Path, features: int | None = None, options: DiskOptions = WRITABLE
) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(_side(directory / "native.img", features, options, native=True)),
            stack.enter_context(_side(directory / "python.img", features, options, native=False)),
        )


@contextmanager
def _side(path: Path, features: int | None, options: DiskOptions, *, native: bool) -> Iterator[Side]:
    path.write_bytes(b"".join(bytes([number]) * 512 for number in range(SECTORS)))
    disk = open_raw(str(path), options)
    try:
        with driving(VirtioBlock("disk", disk)) as rig:
            rig.negotiate(features, size=ENTRIES)
            yield Side(rig, path, native=native)
    finally:
        disk.close()


class Descriptor(NamedTuple):
    address: int
    length: int
    flags: int
    next: int

    def packed(self) -> bytes:
        return struct.pack("<QIHH", *self)


class Request(NamedTuple):
    """A request that Linux could make, if it were not for its numbers."""

    kind: int
    sector: int
    lengths: list[int]
    indirect: bool

    def chain(self, slot: int) -> list[Descriptor]:
        """Header, data and status, from arena slot ``slot`` on."""
        data = 0 if self.kind == T_OUT else WRITE
        parts = [(16, 0), *((length, data) for length in self.lengths), (1, WRITE)]
        addresses = [BUFFERS + (slot + number) % 12 * 0x1000 for number in range(len(parts))]
        return [
            Descriptor(address, length, flags | (NEXT if number + 1 < len(parts) else 0), number + 1)
            for number, (address, (length, flags)) in enumerate(zip(addresses, parts, strict=True))
        ]


TRAP = Descriptor(BUFFERS + 0x800, 1, WRITE, 0)
"""Behind the end of a table: fine, if it were in it."""
REQUESTS = st.builds(
    Request,
    st.sampled_from([T_IN, T_IN, T_OUT, T_OUT, T_FLUSH, T_GET_ID, 99]),
    st.one_of(st.integers(0, SECTORS + 1), st.sampled_from([(1 << 64) - 1, 1 << 55])),
    st.lists(st.sampled_from([512, 512, 1024, 4096, 256, 20]), max_size=4),
    st.booleans(),
)


def offer(rig: DriverRig, at: int, request: Request) -> int:
    """Put a request into the rings, its descriptors from ``at`` on; where the next goes."""
    queue = rig.queue(0)
    chain = request.chain(at)
    rig.memory.write(chain[0].address, HEADER.pack(request.kind, request.sector))
    if request.indirect:
        table = TABLE + at * 0x80
        rig.memory.write(table, b"".join(each.packed() for each in chain))
        chain = [Descriptor(table, 16 * len(chain), INDIRECT, 0)]
    for number, each in enumerate(chain):
        place = (at + number) % ENTRIES
        queue.descriptor(place, *each[:3], (at + number + 1) % ENTRIES)
    queue.make_available(at)
    return (at + len(chain)) % ENTRIES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=4),
    features=st.sampled_from([None, RING_INDIRECT_DESC, RING_EVENT_IDX | blk.FLUSH, 0]),
    read_only=st.booleans(),
    wishes=st.tuples(st.integers(0, 4), st.booleans()),
)
def test_requests_have_the_same_outcome(
    requests: list[Request],
    features: int | None,
    read_only: bool,
    wishes: tuple[int, bool],
    tmp_path: Path,
) -> None:
    """``wishes``: after which one the driver wants an interrupt, and whether it wants none (§2.7.7)."""
    with twins(tmp_path, features, DiskOptions(read_only=read_only)) as sides:
        for side in sides:
            at = 0
            queue = side.rig.queue(0)
            queue.want_interrupt_after(wishes[0])
            side.rig.memory.write(queue.available, bytes([wishes[1]]))
            for request in requests:
                at = offer(side.rig, at, request)
                queue.kick()
                side.rig.serve()
                side.rig.write(mmio.INTERRUPT_ACK, USED_BUFFER)
        native, python = (side.outcome() for side in sides)
        assert native == python


class Change(NamedTuple):
    """One field of one descriptor of a chain, or of the descriptor of its table, becomes another."""

    place: int
    field: str
    value: int


ADDRESSES = st.sampled_from(
    [
        *(BUFFERS, BUFFERS + 0x800, TABLE, TABLE + 16, TABLE + 8, RINGS, RINGS + 0x8000, RINGS + 0xC000),
        *(MEMORY - 512, MEMORY - 511, MEMORY, (1 << 64) - 256, 0xFEE0_0000),
    ]
)
LENGTHS = st.sampled_from([0, 1, 15, 16, 17, 32, 48, 64, 512, 513, 1024, 4096, 0xFFFF_FFFF])
PLACES = st.integers(0, 5)
CHANGES = st.one_of(
    st.builds(Change, PLACES, st.just("address"), ADDRESSES),
    st.builds(Change, PLACES, st.just("length"), LENGTHS),
    st.builds(Change, PLACES, st.just("flags"), st.integers(0, 7)),
    st.builds(Change, PLACES, st.just("next"), st.integers(0, ENTRIES)),
)
PLAIN = st.builds(
    Request,
    st.sampled_from([T_IN, T_OUT]),
    st.integers(0, SECTORS - 8),
    st.lists(st.sampled_from([512, 1024]), min_size=1, max_size=3),
    st.booleans(),
)


def apply(changes: list[Change], chain: list[Descriptor]) -> list[Descriptor]:
    changed = list(chain)
    for place, field, value in changes:
        place %= len(changed)
        changed[place] = changed[place]._replace(**{field: value})
    return changed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    request_=PLAIN,
    changes=st.lists(CHANGES, min_size=1, max_size=3),
    table_changes=st.lists(CHANGES, max_size=1),
    heads=st.lists(st.sampled_from([0, 0, 1, ENTRIES - 1, ENTRIES, 0xFFFF]), min_size=1, max_size=3),
)
def test_rings_of_a_hostile_driver_have_the_same_outcome(
    request_: Request,
    changes: list[Change],
    table_changes: list[Change],
    heads: list[int],
    tmp_path: Path,
) -> None:
    with twins(tmp_path) as sides:
        for side in sides:
            memory, queue = side.rig.memory, side.rig.queue(0)
            chain = request_.chain(0)
            memory.write(chain[0].address, HEADER.pack(request_.kind, request_.sector))
            chain = apply(changes, chain)
            if request_.indirect:
                memory.write(TABLE, b"".join(each.packed() for each in [*chain, TRAP]))
                chain = apply(table_changes, [Descriptor(TABLE, 16 * len(chain), INDIRECT, 0)])
            for number, each in enumerate(chain):
                queue.descriptor(number, *each)
            queue.descriptor(ENTRIES, *TRAP)
            for head in heads:
                queue.make_available(head)
            queue.kick()
            side.rig.serve()
        native, python = (side.outcome() for side in sides)
        assert native == python


HEAD = Descriptor(BUFFERS, 16, NEXT, 1)
DATA_IN = Descriptor(BUFFERS + 0x1000, 512, WRITE | NEXT, 2)
STATUS = Descriptor(BUFFERS + 0x2000, 1, WRITE, 0)
NESTED = Descriptor(TABLE + 0x400, 16, INDIRECT, 0)
BROKEN: dict[str, tuple[list[Descriptor], int]] = {
    "readable behind writable": (
        [HEAD, DATA_IN, Descriptor(BUFFERS + 0x3000, 512, NEXT, 3), DATA_IN._replace(next=4), STATUS],
        0,
    ),
    "goes on behind its indirect table": ([HEAD, DATA_IN, STATUS], INDIRECT | NEXT),
    "a table in a table": ([HEAD, DATA_IN, NESTED], INDIRECT),
    "goes on behind the end": ([HEAD, DATA_IN._replace(next=ENTRIES)], 0),
    "goes on behind the end of its table": ([HEAD, DATA_IN], INDIRECT),
    "goes on for ever": ([HEAD._replace(next=0)], 0),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_breaks_the_queue_and_moves_nothing(rule: str, tmp_path: Path) -> None:
    chain, table_flags = BROKEN[rule]
    with twins(tmp_path) as sides:
        for side in sides:
            memory, queue = side.rig.memory, side.rig.queue(0)
            memory.write(BUFFERS, HEADER.pack(T_IN, 0))
            memory.write(NESTED.address, STATUS.packed())
            if table_flags:
                memory.write(TABLE, b"".join(each.packed() for each in [*chain, TRAP]))
                chain = [Descriptor(TABLE, 16 * len(chain), table_flags, 1)]
            for number, each in enumerate(chain):
                queue.descriptor(number, *each)
            queue.descriptor(ENTRIES, *TRAP)
            queue.make_available(0)
            queue.kick()
            before = memory.read(BUFFERS, ARENA)
            side.rig.serve()
            assert side.outcome()["broken"]
            assert memory.read(BUFFERS, ARENA) == before
            chain, table_flags = BROKEN[rule]


PAGE = mmap.PAGESIZE
DATA = 0x10_0000  # guest physical, of the page that requests are in


@pytest.mark.parametrize("kind", [T_IN, T_OUT])
@pytest.mark.parametrize("gpa", [DATA + PAGE - 511, DATA + PAGE, DATA - 512, DATA - 1, 0, (1 << 64) - 256])
def test_nothing_outside_of_ram_is_touched(kind: int, gpa: int, tmp_path: Path) -> None:
    """Not even where this process has memory: two pages of it are RAM, with others around them."""
    (tmp_path / "image").write_bytes(b"i" * PAGE)
    with (tmp_path / "image").open("r+b") as image, mmap.mmap(-1, 5 * PAGE) as room:
        base = ffi.cast("uintptr_t", ffi.from_buffer(room))
        regions = [(DATA, PAGE, int(base) + PAGE), (DATA + 16 * PAGE, PAGE, int(base) + 3 * PAGE)]
        rings = int(base) + 3 * PAGE
        block = Block(regions, 0, file=image.fileno(), sectors=PAGE // 512)
        queue = Queue(rings, rings + 0x400, rings + 0x800, size=ENTRIES, indirect=True, event_idx=False)
        chain = [
            Descriptor(DATA, 16, NEXT, 1),
            Descriptor(gpa, 512, NEXT | (WRITE if kind == T_IN else 0), 2),
            Descriptor(DATA + 16, 1, WRITE, 0),
        ]
        room[3 * PAGE : 3 * PAGE + 48] = b"".join(each.packed() for each in chain)
        room[3 * PAGE + 0x402 : 3 * PAGE + 0x404] = b"\1\0"
        room[PAGE : PAGE + 16] = HEADER.pack(kind, 0)
        before = bytes(room)
        assert block.serve(queue, writable=True, most=1) == End.PYTHON
        assert bytes(room) == before
        room[3 * PAGE + 16 : 3 * PAGE + 24] = (DATA + PAGE - 512).to_bytes(8, "little")
        assert block.serve(queue, writable=True, most=2) == End.EMPTY, "and the last bytes of RAM are RAM"
    assert (tmp_path / "image").read_bytes() == (bytes(512) if kind == T_OUT else b"i" * 512) + b"i" * (
        PAGE - 512
    )


def read_of(sector: int) -> Request:
    return Request(T_IN, sector, [512], indirect=True)


def test_more_than_a_batch_is_served_and_counted(tmp_path: Path) -> None:
    with twins(tmp_path) as (native, _):
        queue = native.rig.queue(0)
        for number in range(3 * BATCH):
            offer(native.rig, 0, read_of(number % SECTORS))
            if number % ENTRIES == ENTRIES - 1:
                queue.kick()
                native.rig.serve()
        assert native.stats.reads.operations == 3 * BATCH
        assert native.stats.reads.bytes == 3 * BATCH * 512
        assert native.stats.reads.nanoseconds > 0


def test_plain_reads_and_writes_never_reach_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Python has served a plain request")

    monkeypatch.setattr(RawDisk, "read", refuse)
    monkeypatch.setattr(RawDisk, "write", refuse)
    with twins(tmp_path) as (native, _):
        for kind in (T_IN, T_OUT):
            for indirect in (False, True):
                offer(native.rig, 0, Request(kind, 3, [1024, 512], indirect))
                native.rig.queue(0).kick()
                native.rig.serve()
        assert (native.stats.reads.operations, native.stats.writes.operations) == (2, 2)


def test_an_image_that_has_become_shorter_is_an_io_error_and_counted_once(tmp_path: Path) -> None:
    with twins(tmp_path) as (native, python):
        for side in (native, python):
            os.truncate(side.image, 8 * 512)
            offer(side.rig, 0, read_of(20))
            side.rig.queue(0).kick()
            side.rig.serve()
            assert side.stats.reads.failed == 1
        assert native.outcome() == python.outcome()

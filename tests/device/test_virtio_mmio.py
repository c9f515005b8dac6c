"""The virtio-mmio transport and split queues keep virtio 1.2, whatever the driver does."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import (
    ACKNOWLEDGE,
    CONFIG_CHANGE,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    NEEDS_RESET,
    RING_EVENT_IDX,
    USED_BUFFER,
    VERSION_1,
)
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue
from tests.device.virtio import INDIRECT, NEXT, WRITE, DriverRig, driving

FEATURE = 1 << 5


class Upper(VirtioDevice):
    """Answers each request with its bytes in upper case."""

    device_id = 42
    queue_sizes = (64, 64)
    features = FEATURE

    def __init__(self) -> None:
        self.activated: list[int] = []
        self.resets = 0
        self.written: list[tuple[int, bytes]] = []

    def config(self) -> bytes:
        return b"config!"

    def write_config(self, offset: int, data: bytes) -> None:
        self.written.append((offset, data))

    def activate(self, features: int) -> None:
        self.activated.append(features)

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        return chain.write(chain.read().upper())

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def rig() -> Iterator[DriverRig]:
    with driving(Upper()) as made:
        yield made


def test_a_driver_finds_a_version_2_device_by_its_registers(rig: DriverRig) -> None:
    assert rig.read(mmio.MAGIC_VALUE) == int.from_bytes(b"virt", "little")
    assert rig.read(mmio.VERSION_REGISTER) == 2
    assert rig.read(mmio.DEVICE_ID) == 42
    assert rig.offered() == FEATURE | mmio.RING_FEATURES
    assert rig.read(mmio.SHM_LENGTH) == 0xFFFF_FFFF


def test_a_request_is_answered_in_its_own_chain(rig: DriverRig) -> None:
    rig.negotiate()
    assert rig.queue(1).send([b"hello ", b"world"], [4, 100]) == (0, 11, b"HELLO WORLD")
    assert rig.irq.level


def test_many_requests_go_round_the_ring(rig: DriverRig) -> None:
    rig.negotiate(size=4)
    for number in range(70_000 // 64):
        text = f"request {number}".encode()
        assert rig.queue(0).send([text], [64]).data == text.upper()


def test_indices_wrap_at_65536(rig: DriverRig) -> None:
    rig.negotiate(size=2)
    queue = rig.queue(0)
    for _ in range(66_000 // 2):
        queue.offer([b"a"])
        queue.offer([b"b"])
        rig.serve()
        assert len(queue.collect()) == 2


def test_the_interrupt_line_is_high_until_acknowledged(rig: DriverRig) -> None:
    rig.negotiate()
    rig.queue(0).send([b"x"], [1])
    assert rig.read(mmio.INTERRUPT_STATUS) == USED_BUFFER
    rig.write(mmio.INTERRUPT_ACK, USED_BUFFER)
    assert not rig.irq.level
    assert rig.read(mmio.INTERRUPT_STATUS) == 0


def test_event_idx_holds_interrupts_back_until_the_index_that_the_driver_asked_for(rig: DriverRig) -> None:
    rig.negotiate()
    queue = rig.queue(0)
    queue.want_interrupt_after(2)
    for expected in (False, False, True):
        queue.offer([b"x"], [1])
        rig.serve()
        assert rig.irq.level is expected


def test_without_event_idx_the_flag_holds_interrupts_back(rig: DriverRig) -> None:
    rig.negotiate(rig.offered() & ~RING_EVENT_IDX)
    queue = rig.queue(0)
    rig.memory.write(queue.available, struct.pack("<H", 1))
    queue.offer([b"x"], [1])
    rig.serve()
    assert not rig.irq.level
    rig.memory.write(queue.available, struct.pack("<H", 0))
    queue.offer([b"x"], [1])
    rig.serve()
    assert rig.irq.level


def test_the_driver_is_asked_to_kick_where_the_device_has_got_to(rig: DriverRig) -> None:
    rig.negotiate()
    queue = rig.queue(0)
    for number in range(1, 4):
        queue.send([b"x"], [1])
        assert rig.memory.read(queue.used + 4 + 8 * queue.size, 2) == struct.pack("<H", number)


def test_an_indirect_table_is_followed(rig: DriverRig) -> None:
    rig.negotiate()
    queue = rig.queue(0)
    source, target = rig.place(b"indirect"), rig.place(bytes(8))
    table = struct.pack("<QIHH", source, 8, NEXT, 1) + struct.pack("<QIHH", target, 8, WRITE, 0)
    queue.descriptor(0, rig.place(table), len(table), INDIRECT)
    queue.make_available(0)
    queue.kick()
    rig.serve()
    assert [used.length for used in queue.collect()] == [8]
    assert rig.memory.read(target, 8) == b"INDIRECT"


def test_the_accelerator_hears_of_each_byte_that_a_device_stored(rig: DriverRig) -> None:
    rig.negotiate()
    heard: list[tuple[int, int]] = []
    rig.memory.written = lambda gpa, length: heard.append((gpa, length))
    queue = rig.queue(0)
    queue.offer([b"hello"], [3, 9])
    before = len(heard)
    rig.serve()
    assert [length for _, length in heard[before:]] == [3, 2]


def test_features_that_were_not_offered_are_refused(rig: DriverRig) -> None:
    rig.write(mmio.STATUS, ACKNOWLEDGE | DRIVER)
    rig.write(mmio.DRIVER_FEATURES_SEL, 0)
    rig.write(mmio.DRIVER_FEATURES, FEATURE << 1)
    rig.write(mmio.DRIVER_FEATURES_SEL, 1)
    rig.write(mmio.DRIVER_FEATURES, 1)
    rig.write(mmio.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert not rig.read(mmio.STATUS) & FEATURES_OK


def test_a_driver_of_the_legacy_interface_is_refused(rig: DriverRig) -> None:
    rig.write(mmio.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert not rig.read(mmio.STATUS) & FEATURES_OK


def test_the_device_learns_what_was_negotiated_once_the_driver_is_there(rig: DriverRig) -> None:
    rig.negotiate(FEATURE)
    assert isinstance(rig.device, Upper)
    assert rig.device.activated == [FEATURE | VERSION_1]


def test_the_config_space_is_read_at_any_width_and_reads_zero_behind_its_end(rig: DriverRig) -> None:
    assert rig.config(0, 1) == ord("c")
    assert rig.config(2, 4) == int.from_bytes(b"nfig", "little")
    assert rig.config(6, 4) == ord("!")
    assert rig.config(100, 8) == 0
    rig.transport.mmio_write(mmio.CONFIG + 3, 2, 0x0201)
    assert isinstance(rig.device, Upper)
    assert rig.device.written == [(3, b"\x01\x02")]


def test_a_change_of_config_raises_an_interrupt_and_the_generation(rig: DriverRig) -> None:
    rig.negotiate()
    before = rig.read(mmio.CONFIG_GENERATION)
    rig.transport.config_changed()
    assert rig.read(mmio.CONFIG_GENERATION) != before
    assert rig.read(mmio.INTERRUPT_STATUS) == CONFIG_CHANGE


def test_a_reset_forgets_the_driver_and_drops_what_was_in_flight(rig: DriverRig) -> None:
    rig.negotiate()
    rig.queue(0).send([b"x"], [1])
    with rig.transport.lock:
        queue = rig.transport.queue(0)
    assert queue is not None
    rig.queue(0).offer([b"late"], [4])
    chain = queue.pop()
    assert chain is not None
    rig.write(mmio.STATUS, 0)
    used = rig.memory.read(rig.queue(0).used + 2, 2)
    queue.push(chain, 4)
    queue.notify()
    assert rig.memory.read(rig.queue(0).used + 2, 2) == used
    assert rig.read(mmio.STATUS) == 0
    assert rig.read(mmio.QUEUE_READY) == 0
    assert not rig.irq.level


def test_a_device_works_on_after_its_driver_came_anew(rig: DriverRig) -> None:
    for _ in range(3):
        rig.negotiate()
        assert rig.queue(0).send([b"again"], [5]).data == b"AGAIN"


def test_a_transport_restored_from_its_state_goes_on_in_the_middle_of_the_ring(rig: DriverRig) -> None:
    rig.negotiate()
    for _ in range(5):
        rig.queue(0).send([b"x"], [1])
    state = rig.transport.save()
    rig.transport.reset()
    rig.transport.load(rig.transport.state_version, state)
    assert rig.queue(0).send([b"restored"], [8]).data == b"RESTORED"
    assert rig.transport.save() == rig.transport.save()


BAD_CHAINS = {
    "a head outside the table": lambda rig, queue: queue.make_available(64),
    "a next outside the table": lambda rig, queue: (
        queue.descriptor(0, rig.place(b"x"), 1, NEXT, 999),
        queue.make_available(0),
    ),
    "a loop": lambda rig, queue: (
        queue.descriptor(0, rig.place(b"x"), 1, NEXT, 0),
        queue.make_available(0),
    ),
    "an address outside RAM": lambda rig, queue: (
        queue.descriptor(0, 1 << 45, 1, 0),
        queue.make_available(0),
    ),
    "a length that leaves RAM": lambda rig, queue: (
        queue.descriptor(0, rig.memory.size - 8, 16, 0),
        queue.make_available(0),
    ),
    "an address that wraps": lambda rig, queue: (
        queue.descriptor(0, (1 << 64) - 4, 16, 0),
        queue.make_available(0),
    ),
    "an empty descriptor": lambda rig, queue: (
        queue.descriptor(0, rig.place(b"x"), 0, 0),
        queue.make_available(0),
    ),
    "a readable descriptor behind a writable one": lambda rig, queue: (
        queue.descriptor(0, rig.place(b"x"), 1, WRITE | NEXT, 1),
        queue.descriptor(1, rig.place(b"x"), 1, 0),
        queue.make_available(0),
    ),
    "an indirect table within another": lambda rig, queue: (
        queue.descriptor(0, rig.place(struct.pack("<QIHH", 4096, 16, INDIRECT, 0)), 16, INDIRECT),
        queue.make_available(0),
    ),
    "an indirect table of a broken length": lambda rig, queue: (
        queue.descriptor(0, rig.place(bytes(24)), 24, INDIRECT),
        queue.make_available(0),
    ),
    "an indirect table that goes on": lambda rig, queue: (
        queue.descriptor(0, rig.place(bytes(16)), 16, INDIRECT | NEXT, 1),
        queue.make_available(0),
    ),
    "more chains than the ring holds": lambda rig, queue: rig.memory.write(
        queue.available + 2, struct.pack("<H", 65)
    ),
}


@pytest.mark.parametrize("what", BAD_CHAINS)
def test_a_broken_queue_needs_a_reset_and_a_reset_heals_it(rig: DriverRig, what: str) -> None:
    rig.negotiate()
    BAD_CHAINS[what](rig, rig.queue(0))
    rig.queue(0).kick()
    rig.serve()
    assert rig.read(mmio.STATUS) & NEEDS_RESET
    assert rig.read(mmio.INTERRUPT_STATUS) & CONFIG_CHANGE
    rig.negotiate()
    assert rig.queue(0).send([b"healed"], [6]).data == b"HEALED"


def test_a_driver_that_breaks_its_queue_for_ever_does_not_fill_the_log(
    rig: DriverRig, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        rig.negotiate()
        rig.queue(0).make_available(64)
        rig.queue(0).kick()
        rig.serve()
    told = [record.getMessage() for record in caplog.records]
    assert [text.rpartition("(")[2] for text in told] == [f"{1 << n} so far)" for n in range(7)]


def test_rings_outside_ram_or_misaligned_need_a_reset(rig: DriverRig) -> None:
    rig.negotiate()
    for address in (1 << 45, 0x10_0001):
        rig.write(mmio.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        rig.write(mmio.QUEUE_SEL, 0)
        rig.write(mmio.QUEUE_DESC, address & 0xFFFF_FFFF)
        rig.write(mmio.QUEUE_DESC + 4, address >> 32)
        rig.write(mmio.QUEUE_READY, 1)
        assert rig.read(mmio.STATUS) & NEEDS_RESET
        rig.write(mmio.STATUS, 0)


STATUS_VALUES = st.sampled_from(
    [0, 1, 3, ACKNOWLEDGE | DRIVER | FEATURES_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, 255]
)
REGISTERS = st.one_of(
    st.tuples(st.just(mmio.STATUS), STATUS_VALUES),
    st.tuples(st.integers(0, 0x1FF), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.sampled_from([mmio.QUEUE_READY, mmio.QUEUE_NOTIFY, mmio.QUEUE_SEL]), st.integers(0, 3)),
    st.tuples(st.sampled_from([mmio.QUEUE_DESC, mmio.QUEUE_DRIVER]), st.integers(0, 0x7FF_FFFF)),
)
ACCESSES = st.lists(st.tuples(REGISTERS, st.sampled_from([1, 2, 4, 8])), max_size=40)
JUNK = st.binary(min_size=64, max_size=512)


@settings(max_examples=300)
@given(accesses=ACCESSES, rings=JUNK, descriptors=JUNK)
def test_no_exception_escapes_whatever_is_in_registers_and_rings(
    accesses: list[tuple[tuple[int, int], int]], rings: bytes, descriptors: bytes
) -> None:
    with driving(Upper()) as rig:
        rig.negotiate()
        rig.memory.write(rig.queue(0).available, rings)
        rig.memory.write(rig.queue(0).descriptors, descriptors)
        rig.queue(0).kick()
        rig.serve()
        for (register, value), size in accesses:
            rig.transport.mmio_write(register, size, value & (1 << 8 * size) - 1)
            assert 0 <= rig.transport.mmio_read(register, size) < 1 << 8 * size
            rig.serve()

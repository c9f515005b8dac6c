"""The buses: every access reaches the device that claimed it, or nobody, and never raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.machine.bus import MachineBus


class Recorder:
    """A device that notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def pio_read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return 0x5A

    def pio_write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))

    mmio_read = pio_read
    mmio_write = pio_write


def test_a_port_access_reaches_its_device_with_the_offset() -> None:
    bus, device = MachineBus(), Recorder()
    bus.claim_ports(0x3F8, 8, device)
    assert bus.pio_read(0x3FD, 1) == 0x5A
    bus.pio_write(0x3F8, 1, 65)
    assert device.seen == [(5, 1), (0, 1, 65)]


def test_an_mmio_access_reaches_its_device_with_the_offset() -> None:
    bus, low, high = MachineBus(), Recorder(), Recorder()
    bus.claim_mmio(0xF010_0200, 0x200, high)
    bus.claim_mmio(0xF010_0000, 0x200, low)
    assert bus.mmio_read(0xF010_01FF, 1) == 0x5A
    bus.mmio_write(0xF010_0250, 4, 7)
    assert (low.seen, high.seen) == ([(0x1FF, 1)], [(0x50, 4, 7)])


@given(address=st.integers(0, (1 << 64) - 1), size=st.sampled_from([1, 2, 4, 8]))
def test_unclaimed_reads_give_all_ones_and_are_counted(address: int, size: int) -> None:
    bus = MachineBus()
    ones = (1 << 8 * size) - 1
    assert bus.mmio_read(address, size) == ones
    assert bus.pio_read(address & 0xFFFF, size) == ones
    bus.mmio_write(address, size, 0)
    bus.pio_write(address & 0xFFFF, size, 0)
    assert (bus.unclaimed.reads, bus.unclaimed.writes) == (2, 2)


def test_the_address_behind_a_window_is_not_the_windows() -> None:
    bus, device = MachineBus(), Recorder()
    bus.claim_mmio(0x1000, 0x100, device)
    assert bus.mmio_read(0x1100, 4) == 0xFFFF_FFFF
    assert bus.mmio_read(0x0FFF, 4) == 0xFFFF_FFFF
    assert device.seen == []


def test_claiming_twice_is_refused() -> None:
    bus = MachineBus()
    bus.claim_ports(0x60, 1, Recorder())
    bus.claim_mmio(0x1000, 0x100, Recorder())
    with pytest.raises(ValueError, match="port 0x60 is claimed twice"):
        bus.claim_ports(0x5F, 2, Recorder())
    with pytest.raises(ValueError, match="address 0x1080 is claimed twice"):
        bus.claim_mmio(0x1080, 0x100, Recorder())

"""The RTC: shows the host's UTC in the coding the guest chose, and keeps a time the guest sets."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from stratovirt.devices import rtc
from stratovirt.devices.rtc import Rtc, from_bcd, to_bcd

NOON = datetime(2026, 11, 22, 13, 45, 59, tzinfo=UTC)


def read(clock: Rtc, index: int) -> int:
    clock.pio_write(0, 1, index)
    return clock.pio_read(1, 1)


def write(clock: Rtc, index: int, value: int) -> None:
    clock.pio_write(0, 1, index)
    clock.pio_write(1, 1, value)


def at(moment: datetime) -> Rtc:
    return Rtc(now=moment.timestamp)


def test_the_time_is_bcd_in_24_hours_at_power_on() -> None:
    clock = at(NOON)
    shown = [read(clock, index) for index in rtc.TIME_REGISTERS]
    assert shown == [0x59, 0x45, 0x13, 1, 0x22, 0x11, 0x26, 0x20]


def test_the_time_is_binary_when_asked() -> None:
    clock = at(NOON)
    write(clock, rtc.REGISTER_B, rtc.B_BINARY | rtc.B_24_HOURS)
    assert [read(clock, rtc.SECONDS), read(clock, rtc.HOURS)] == [59, 13]


def test_twelve_hour_mode_marks_the_afternoon() -> None:
    clock = at(NOON)
    write(clock, rtc.REGISTER_B, rtc.B_BINARY)
    assert read(clock, rtc.HOURS) == 0x80 | 1


def test_register_d_says_that_the_battery_is_good() -> None:
    assert read(at(NOON), rtc.REGISTER_D) == 0x80


def test_a_time_that_the_guest_sets_runs_on_from_there() -> None:
    host = [NOON.timestamp()]
    clock = Rtc(now=lambda: host[0])
    write(clock, rtc.REGISTER_B, rtc.B_SET | rtc.B_24_HOURS)
    for index, value in ((rtc.HOURS, 0x01), (rtc.MINUTES, 0x02), (rtc.SECONDS, 0x03)):
        write(clock, index, value)
    write(clock, rtc.REGISTER_B, rtc.B_24_HOURS)
    host[0] += 4
    assert [read(clock, index) for index in (rtc.HOURS, rtc.MINUTES, rtc.SECONDS)] == [0x01, 0x02, 0x07]


def test_a_date_that_does_not_exist_leaves_the_clock_alone() -> None:
    clock = at(NOON)
    write(clock, rtc.MONTH, 0x13)
    assert read(clock, rtc.MONTH) == 0x11


@given(st.integers(0, 99))
def test_bcd_round_trips(value: int) -> None:
    assert from_bcd(to_bcd(value)) == value


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 255)), max_size=50))
def test_no_register_sequence_raises_or_leaves_a_byte(accesses: list[tuple[bool, int, int]]) -> None:
    clock = at(NOON)
    for is_write, offset, value in accesses:
        if is_write:
            clock.pio_write(offset, 1, value)
        else:
            assert 0 <= clock.pio_read(offset, 1) <= 0xFF


def test_a_restored_clock_shows_the_hosts_time_and_the_shift_that_the_guest_had_set() -> None:
    now = [1_700_000_000.0]
    old = Rtc(lambda: now[0])
    old.pio_write(0, 1, rtc.YEAR)
    old.pio_write(1, 1, 0x30)
    now[0] += 3600
    new = Rtc(lambda: now[0])
    new.load(old.state_version, old.save())
    assert new.pio_read(1, 1) == old.pio_read(1, 1) == 0x30
    new.pio_write(0, 1, rtc.HOURS)
    old.pio_write(0, 1, rtc.HOURS)
    assert new.pio_read(1, 1) == old.pio_read(1, 1)

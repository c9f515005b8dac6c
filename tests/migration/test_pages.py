"""The C that sees every byte of guest memory finds what the readable Python here finds."""

from __future__ import annotations

import mmap
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.memory import Region
from stratovirt.memory.mapping import Room
from stratovirt.native.pages import CHECKSUM_SIZE, MIN_HOLE, checksum, filled_runs

PAGE = mmap.PAGESIZE
PAGES = 60
POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reflected (RFC 3720, appendix B.4)."""


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    region = Region(0, PAGES * PAGE, Room(PAGES * PAGE))
    yield region
    region.close()


def test_the_reference_is_crc_32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720


@given(st.integers(0, 8), st.randoms())
def test_the_checksum_is_crc_32c_of_every_fourth_word(count: int, pick: random.Random) -> None:
    data = pick.randbytes(32 * count)
    lanes = [b"".join(data[at : at + 8] for at in range(8 * lane, len(data), 32)) for lane in range(4)]
    assert checksum(data) == b"".join(crc32c(lane).to_bytes(4, "little") for lane in lanes)


@given(st.integers(0, PAGE * 8 - 1))
def test_any_changed_bit_changes_it(bit: int) -> None:
    data = bytearray(b"some page" * PAGE)[:PAGE]
    before = checksum(memoryview(data))
    data[bit // 8] ^= 1 << bit % 8
    assert len(before) == CHECKSUM_SIZE
    assert checksum(memoryview(data)) != before


@given(st.sets(st.integers(0, PAGES * PAGE - 1), max_size=5))
def test_runs_hold_every_byte_that_is_not_zero_and_no_long_holes(region: Region, bytes_at: set[int]) -> None:
    for position in bytes_at:
        region.bytes[position] = 0x80
    runs = list(filled_runs(region.host_address, region.size))
    for position in bytes_at:
        region.bytes[position] = 0
    filled = sorted({position // PAGE * PAGE for position in bytes_at})
    assert {first for first, _ in runs} | {end - PAGE for _, end in runs} <= set(filled)
    for before, after in pairwise(filled):
        together = any(first <= before and after < end for first, end in runs)
        assert together == (after - (before + PAGE) < MIN_HOLE)
    assert bool(runs) == bool(filled)

"""The file of a machine's state gives back what was put in, and refuses everything else by name."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.errors import AcceleratorError, SnapshotError
from stratovirt.vmstate import Section, decode, encode, load_section, save_section

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**300), 2**300)
    | st.text()
    | st.binary()
    | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "base64"), inner),
    max_leaves=20,
)
SECTIONS = st.lists(
    st.builds(Section, st.text(), st.integers(1, 99), st.dictionaries(st.text(min_size=7), PLAIN)), max_size=4
)
STATE = encode([Section("serial", 1, {"fifo": b"\0\xff", "level": True}), Section("rtc", 2, {"index": 7})])


def forged(body: bytes) -> bytes:
    """A file whose first line is right for ``body``."""
    return f"stratovirt-state 1 {len(body)} {hashlib.sha256(body).hexdigest()}\n".encode() + body


@given(SECTIONS)
def test_what_was_encoded_is_decoded(sections: list[Section]) -> None:
    assert decode(encode(sections)) == sections


@given(st.integers(0, len(STATE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(STATE)
    damaged[position] ^= change
    with pytest.raises(SnapshotError):
        decode(bytes(damaged))


@given(st.integers(0, len(STATE) - 1))
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(SnapshotError, match="first line"):
        decode(STATE[:length])


def test_appended_bytes_are_refused() -> None:
    with pytest.raises(SnapshotError, match="but there are"):
        decode(STATE + b"\n")


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError, match="first line"):
        decode(data)


def test_another_format_is_named() -> None:
    with pytest.raises(SnapshotError, match="format 2 is unknown; this version reads format 1"):
        decode(STATE.replace(b"state 1 ", b"state 2 ", 1))


def test_damage_behind_the_first_line_is_told_by_the_checksum() -> None:
    with pytest.raises(SnapshotError, match="damaged: its SHA-256"):
        decode(STATE.replace(b"serial", b"SERIAL"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}x",
        b"7",
        b'"abc"',
        b"[1]",
        b"[{}]",
        b'[{"name":"a","version":1}]',
        b'[{"name":"a","version":"1","state":{}}]',
        b'[{"name":"a","version":true,"state":{}}]',
        b'[{"name":1,"version":1,"state":{}}]',
        b'[{"name":"a","version":1,"state":[]}]',
        b'[{"name":"a","version":1,"state":{"base64":"YQ=="}}]',
        b'[{"name":"a","version":1,"state":{"x":{"base64":"?"}}}]',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_sections_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(SnapshotError, match="its sections cannot be read"):
        decode(forged(body))


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), float("inf")])
def test_what_is_not_plain_is_not_encoded(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode([Section("a", 1, {"value": value})])


class Part:
    """Something that saves itself."""

    state_version = 2

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def save(self) -> dict[str, Any]:
        return {"value": self.value}

    def load(self, version: int, state: dict[str, Any]) -> None:
        if state["value"] < 0:
            raise AcceleratorError("it is below zero")
        self.value = state["value"] + version


def test_a_part_is_given_the_version_it_was_saved_in() -> None:
    part = Part()
    load_section(Section("part", 1, {"value": 5}), part)
    assert part.value == 6
    assert save_section("part", part) == Section("part", 2, {"value": 6})


@pytest.mark.parametrize("version", [0, 3, -1])
def test_a_version_that_a_part_does_not_know_is_refused_by_name(version: int) -> None:
    with pytest.raises(SnapshotError, match=f"section part has version {version}; known is up to 2"):
        load_section(Section("part", version, {"value": 5}), Part())


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({}, "section part lacks 'value'"),
        ({"value": "x"}, "section part holds what cannot be"),
        ({"value": None}, "section part holds what cannot be"),
        ({"value": -1}, "section part: it is below zero"),
    ],
)
def test_a_section_that_does_not_fit_is_named(state: dict[str, Any], problem: str) -> None:
    with pytest.raises(SnapshotError, match=problem):
        load_section(Section("part", 1, state), Part())

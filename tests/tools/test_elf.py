"""The ELF reader finds a section, tells static programs, and refuses anything else with ValueError."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.tools import elf
from tests.tools.samples import elf_with_section


def program(*kinds: int) -> bytes:
    """An ELF64 program with one program header of each type."""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<2HI3QI6H", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0)
    return header + b"".join(struct.pack("<I52x", kind) for kind in kinds)


def test_a_section_is_found_by_name() -> None:
    assert elf.section(elf_with_section(".modinfo", b"depends="), ".modinfo") == b"depends="


def test_a_section_that_is_not_there_is_empty() -> None:
    assert elf.section(elf_with_section(".modinfo", b"depends="), ".text") == b""


def test_a_program_with_an_interpreter_is_not_static() -> None:
    load, interpreter = 1, 3
    assert elf.is_static(program(load))
    assert not elf.is_static(program(load, interpreter))


@pytest.mark.parametrize("image", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(60)])
def test_a_file_of_another_kind_is_named_as_such(image: bytes) -> None:
    with pytest.raises(ValueError, match="not an x86_64 ELF file"):
        elf.section(image, ".modinfo")


def test_a_cut_file_is_named_as_such() -> None:
    with pytest.raises(ValueError, match="truncated"):
        elf.section(elf_with_section(".modinfo", b"depends=")[:-1], ".modinfo")


@given(junk=st.binary(max_size=300))
def test_no_file_makes_it_fail_in_any_other_way(junk: bytes) -> None:
    """Whatever the bytes, the answer is a section, a truth value or ValueError."""
    image = b"\x7fELF\x02\x01" + junk
    for question in (lambda: elf.section(image, ".modinfo"), lambda: elf.is_static(image)):
        try:
            assert isinstance(question(), bytes | bool)
        except ValueError as error:
            assert str(error)  # noqa: PT017 (ValueError is one of the two right answers)

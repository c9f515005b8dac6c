"""The few facts that are needed from an ELF file: a section's bytes, and whether it is static.

Only little-endian ELF64 is read: x86_64 is all that this project runs. Anything else raises ValueError.
Source: System V ABI, chapters 4 (sections) and 5 (program headers).
"""

import struct
from typing import NamedTuple

MAGIC_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
PROGRAM_HEADER_INTERPRETER = 3  # PT_INTERP: the path of the dynamic loader


class _Header(NamedTuple):
    type: int
    machine: int
    version: int
    entry: int
    program_offset: int
    section_offset: int
    flags: int
    size: int
    program_size: int
    program_count: int
    section_size: int
    section_count: int
    section_names: int


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int


_HEADER = struct.Struct("<16x2HI3QI6H")
_SECTION = struct.Struct("<2I4Q24x")


def section(image: bytes, name: str) -> bytes:
    """The bytes of section ``name``; empty when there is none.

    :raise ValueError: not an ELF64 file, or cut short.
    """
    header = _header(image)
    offsets = _table(header.section_offset, header.section_size, header.section_count)
    sections = [_Section(*_unpack(_SECTION, image, offset)) for offset in offsets]
    if header.section_names >= len(sections):
        return b""
    names = _content(image, sections[header.section_names])
    for candidate in sections:
        if names[candidate.name :].partition(b"\0")[0] == name.encode():
            return _content(image, candidate)
    return b""


def is_static(image: bytes) -> bool:
    """Whether a program runs without a dynamic loader.

    :raise ValueError: not an ELF64 file, or cut short.
    """
    header = _header(image)
    offsets = _table(header.program_offset, header.program_size, header.program_count)
    kinds = [_unpack(struct.Struct("<I"), image, offset)[0] for offset in offsets]
    return PROGRAM_HEADER_INTERPRETER not in kinds


def _header(image: bytes) -> _Header:
    if not image.startswith(MAGIC_ELF64_LITTLE_ENDIAN):
        raise ValueError("not an x86_64 ELF file")
    return _Header(*_unpack(_HEADER, image, 0))


def _table(offset: int, size: int, count: int) -> list[int]:
    return [offset + index * size for index in range(count)]


def _unpack(layout: struct.Struct, image: bytes, offset: int) -> tuple[int, ...]:
    try:
        return layout.unpack_from(image, offset)
    except struct.error:
        raise ValueError("truncated ELF file") from None


def _content(image: bytes, header: _Section) -> bytes:
    return image[header.offset : header.offset + header.size]

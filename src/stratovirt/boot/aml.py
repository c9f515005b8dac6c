"""ACPI machine language, as much of it as the DSDT needs (ACPI 6.4 §20.2; resources §6.4).

Each function encodes one term; a term's operands are the encoded bytes of others, so that a table
reads like its ASL.
"""

from __future__ import annotations

import struct

ARG_0 = b"\x68"
LOCAL_0 = b"\x60"

# Interrupt flags of extended_interrupt(): the device consumes it, alone, active high.
EDGE = 0x03
LEVEL = 0x01


def integer(value: int) -> bytes:
    """The shortest constant."""
    if value in (0, 1):
        return bytes([value])
    for prefix, code, bits in ((b"\x0a", "<B", 8), (b"\x0b", "<H", 16), (b"\x0c", "<I", 32)):
        if value < 1 << bits:
            return prefix + struct.pack(code, value)
    return b"\x0e" + struct.pack("<Q", value)


def string(text: str) -> bytes:
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """An id such as ``PNP0501`` as a constant: three letters of 5 bits, four hexadecimal digits."""
    first, second, third = (ord(letter) - 0x40 for letter in text[:3])
    letters = first << 10 | second << 5 | third
    return b"\x0c" + struct.pack(">HH", letters, int(text[3:], 16))


def name(path: str, value: bytes) -> bytes:
    return b"\x08" + _path(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    return b"\x10" + _sized(_path(path), *terms)


def device(path: str, *terms: bytes) -> bytes:
    return b"\x5b\x82" + _sized(_path(path), *terms)


def method(path: str, arguments: int, *terms: bytes) -> bytes:
    """A serialized method."""
    return b"\x14" + _sized(_path(path), bytes([arguments | 0x08]), *terms)


def package(*elements: bytes) -> bytes:
    return b"\x12" + _sized(bytes([len(elements)]), *elements)


def resources(*descriptors: bytes) -> bytes:
    """A buffer of resource descriptors, with their end tag."""
    data = b"".join(descriptors) + b"\x79\x00"
    return b"\x11" + _sized(integer(len(data)), data)


def system_memory(path: str, address: int, length: int) -> bytes:
    """An operation region."""
    return b"\x5b\x80" + _path(path) + b"\x00" + integer(address) + integer(length)


def dword_field(region: str, field: str) -> bytes:
    """One 32-bit field at the start of a region, accessed as a whole."""
    access_dword, bits = b"\x03", _package_length(32, counts_itself=False)
    return b"\x5b\x81" + _sized(_path(region), access_dword, field.encode("ascii"), bits)


def store(source: bytes, target: bytes) -> bytes:
    return b"\x70" + source + target


def if_bits(value: bytes, mask: int, *terms: bytes) -> bytes:
    """``If (value & mask) { terms }``."""
    discard = b"\x00"
    return b"\xa0" + _sized(b"\x7b" + value + integer(mask) + discard, *terms)


def notify(path: str, value: int) -> bytes:
    return b"\x86" + _path(path) + integer(value)


def reference(path: str) -> bytes:
    """The value of a named object."""
    return _path(path)


def memory32_fixed(address: int, size: int) -> bytes:
    """Registers in memory, writable."""
    return struct.pack("<BHBII", 0x86, 9, 1, address, size)


def io_ports(first: int, count: int) -> bytes:
    """``count`` consecutive 16-bit port addresses."""
    decode_16, alignment = 1, 1
    return struct.pack("<BBHHBB", 0x47, decode_16, first, first, alignment, count)


def extended_interrupt(gsi: int, trigger: int) -> bytes:
    """One interrupt; ``trigger`` is :data:`EDGE` or :data:`LEVEL`."""
    return struct.pack("<BHBBI", 0x89, 6, trigger, 1, gsi)


def _path(path: str) -> bytes:
    r"""A name of four characters, with any leading ``\``."""
    return path.encode("ascii")


def _sized(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return _package_length(len(body)) + body


def _package_length(length: int, *, counts_itself: bool = True) -> bytes:
    """PkgLength (ACPI 6.4 §20.2.4): one byte up to 63, else 4 bits and as many more bytes as it takes."""
    own = int(counts_itself)
    if length + own < 1 << 6:
        return bytes([length + own])
    for extra in (1, 2, 3):
        total = length + own * (1 + extra)
        if total < 1 << 4 + 8 * extra:
            return bytes([extra << 6 | total & 0x0F]) + (total >> 4).to_bytes(extra, "little")
    raise ValueError(f"an AML package of {length} bytes")

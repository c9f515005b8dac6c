"""Kernel files with the real structure, as small as it allows, for tests to take apart."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Sequence

import lz4.block
import zstandard

LOAD_ADDRESS = 0x100_0000
SETUP_SECTORS = 3
PAYLOAD_OFFSET = 0x40  # behind the setup sectors: the decompressor's own code comes first
TRAILING_CODE = b"\xcc" * 512


def elf_kernel(
    segments: Sequence[tuple[int, bytes, int]],
    *,
    entry: int = LOAD_ADDRESS,
    bits: int = 64,
    byte_order: str = "<",
    machine: int = 62,
) -> bytes:
    """An ELF executable of ``(physical address, bytes, bytes of memory)`` segments."""
    ident = b"\x7fELF" + bytes([bits // 32, 1 if byte_order == "<" else 2, 1]).ljust(12, b"\0")
    header = struct.pack(
        byte_order + "HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    table, data = b"", b""
    for gpa, content, size in segments:
        offset = 64 + 56 * len(segments) + len(data)
        virtual = 0xFFFF_FFFF_8000_0000 + gpa & 0xFFFF_FFFF_FFFF_FFFF
        table += struct.pack("<IIQQQQQQ", 1, 7, offset, virtual, gpa, len(content), size, 0x1000)
        data += content
    return ident + header + table + data


def lz4_legacy(data: bytes, block: int = 8 << 20) -> bytes:
    """What ``lz4 -l`` writes."""
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), block):
        packed = lz4.block.compress(data[start : start + block], store_size=False)
        out += struct.pack("<I", len(packed)) + packed
    return out


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "lz4": lz4_legacy,
    "zstd": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
}


def payload(kernel: bytes, compression: str = "lz4") -> bytes:
    """A kernel compressed as its build does it: with the size appended, which gzip has by itself."""
    packed = COMPRESSORS[compression](kernel)
    return packed if compression == "gzip" else packed + struct.pack("<I", len(kernel))


def bzimage(
    packed: bytes,
    *,
    protocol: int = 0x020F,
    loadflags: int = 0x01,
    xloadflags: int = 0x7F,
    cmdline_size: int = 2047,
    initrd_addr_max: int = 0x7FFF_FFFF,
) -> bytes:
    """A bzImage around a compressed payload."""
    setup = bytearray((SETUP_SECTORS + 1) * 512)
    setup[0x1EF] = 0xFF  # the sentinel that a loader must not copy
    for offset, code, value in (
        (0x000, "2s", b"MZ"),
        (0x1F1, "B", SETUP_SECTORS),
        (0x1FE, "<H", 0xAA55),
        (0x201, "B", 0x6A),
        (0x202, "4s", b"HdrS"),
        (0x206, "<H", protocol),
        (0x211, "B", loadflags),
        (0x22C, "<I", initrd_addr_max),
        (0x236, "<H", xloadflags),
        (0x238, "<I", cmdline_size),
        (0x248, "<I", PAYLOAD_OFFSET),
        (0x24C, "<I", len(packed)),
    ):
        struct.pack_into(code, setup, offset, value)
    return bytes(setup) + b"\x90" * PAYLOAD_OFFSET + packed + TRAILING_CODE


def payload_end(image: bytes) -> int:
    """Bytes of a bzImage that a loader needs."""
    return len(image) - len(TRAILING_CODE)

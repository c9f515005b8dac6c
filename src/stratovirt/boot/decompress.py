"""Decompress the payload of a bzImage on the host.

A kernel's own decompressor, run on a software CPU, takes seconds; a library takes a fraction of one
(14 MB of lz4 to 53 MB: 45 ms). Each library is imported only for the kernel that needs it.

The law of this file: whatever the payload claims, no more is produced than its last four bytes
announce, and they announce no more than :data:`MAX_IMAGE`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from stratovirt.errors import ImageError

# Linux maps at most this much of itself: KERNEL_IMAGE_SIZE with KASLR, arch/x86/include/asm/page_64_types.h.
MAX_IMAGE = 1 << 30
# `lz4 -l`, which the kernel's build uses: LEGACY_BLOCKSIZE in lz4's programs/lz4io.c.
LZ4_LEGACY_BLOCK = 8 << 20
# Dictionary an xz or lzma decoder may ask for; kernels use 32 MiB, newer ones 128 (scripts/xz_wrap.sh).
MAX_DICTIONARY = 256 << 20
# The build appends the decompressed size to each payload; in gzip it is the format's own ISIZE.
SIZE_TRAILER = struct.Struct("<I")


class _Damaged(Exception):
    """The compressed data cannot be read; the text says why."""


def decompress(path: str, payload: memoryview) -> list[bytes]:
    """The content of a bzImage's payload, in pieces.

    :param path: of the bzImage, for errors.
    :param payload: compressed data and the size trailer (Linux scripts/Makefile.lib, ``size_append``).
    :raises ImageError: unknown compression, damaged data, or more than :data:`MAX_IMAGE` bytes.
    """
    name, codec = _codec(path, payload)
    size = int(SIZE_TRAILER.unpack(payload[-SIZE_TRAILER.size :])[0])
    if size > MAX_IMAGE:
        raise ImageError(
            f"{path}: its payload claims {size} bytes decompressed; a kernel has {MAX_IMAGE} at most"
        )
    try:
        pieces = codec(payload, size)
    except _Damaged as error:
        raise ImageError(f"{path}: its {name} payload is damaged: {error}") from error
    if (length := sum(map(len, pieces))) != size:
        raise ImageError(
            f"{path}: its {name} payload is damaged: {length} bytes decompressed, {size} announced"
        )
    return pieces


_Codec = Callable[[memoryview, int], list[bytes]]


def _codec(path: str, payload: memoryview) -> tuple[str, _Codec]:
    start = bytes(payload[:6])
    if len(payload) < len(start) + SIZE_TRAILER.size:
        raise ImageError(f"{path}: its payload has {len(payload)} bytes, too few for any kernel")
    for magic, name, codec in _CODECS:
        if start.startswith(magic):
            return name, codec
    raise ImageError(f"{path}: its payload is compressed in an unknown way (it starts with {start.hex(' ')})")


def _whole(
    decode: Callable[[memoryview, int], bytes], failure: type[Exception], payload: memoryview, size: int
) -> list[bytes]:
    """Decode in one call, allowing one byte more than announced: the decoder then reaches its checksum."""
    try:
        return [decode(payload, size + 1)]
    except failure as error:
        raise _Damaged(str(error)) from error


def _gzip(payload: memoryview, size: int) -> list[bytes]:
    import zlib

    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: a gzip header, not zlib's own
    return _whole(decoder.decompress, zlib.error, payload, size)


def _bzip2(payload: memoryview, size: int) -> list[bytes]:
    import bz2

    return _whole(bz2.BZ2Decompressor().decompress, OSError, payload, size)


def _xz(payload: memoryview, size: int) -> list[bytes]:
    import lzma

    decoder = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY)
    return _whole(decoder.decompress, lzma.LZMAError, payload, size)


def _zstd(payload: memoryview, size: int) -> list[bytes]:
    import zstandard

    def decode(data: memoryview, limit: int) -> bytes:
        return zstandard.ZstdDecompressor().stream_reader(data).read(limit)

    return _whole(decode, zstandard.ZstdError, payload, size)


def _lz4(payload: memoryview, size: int) -> list[bytes]:
    import lz4.block

    pieces: list[bytes] = []
    for block in _lz4_blocks(payload[4 : -SIZE_TRAILER.size]):
        try:
            pieces.append(lz4.block.decompress(block, uncompressed_size=LZ4_LEGACY_BLOCK))
        except lz4.block.LZ4BlockError as error:
            raise _Damaged(str(error)) from error
        if sum(map(len, pieces)) > size:
            raise _Damaged(f"more than the {size} bytes announced")
    return pieces


def _lz4_blocks(data: memoryview) -> Iterator[memoryview]:
    """The blocks of a legacy frame: each a 32-bit length and that many bytes (lz4_Frame_format.md)."""
    while data:
        if len(data) < 4:
            raise _Damaged("a block length is cut off")
        length = int.from_bytes(data[:4], "little")
        if not 0 < length <= len(data) - 4:
            raise _Damaged(f"a block of {length} bytes where {len(data) - 4} are left")
        yield data[4 : 4 + length]
        data = data[4 + length :]


_CODECS: tuple[tuple[bytes, str, _Codec], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\x02\x21\x4c\x18", "lz4", _lz4),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\xfd7zXZ\x00", "xz", _xz),
    (b"\x5d\x00\x00", "lzma", _xz),
    (b"BZh", "bzip2", _bzip2),
)

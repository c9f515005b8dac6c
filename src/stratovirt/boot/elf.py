"""Read the program headers of an ELF64 x86-64 kernel (System V ABI, chapters 4 and 5).

Linux's vmlinux carries physical addresses in ``p_paddr`` and, in ``e_entry``, the physical address of
``startup_64``: the 64-bit entry point with the boot protocol's state.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from stratovirt.boot.content import Content
from stratovirt.errors import ImageError

MAGIC = b"\x7fELF"

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_INTERP = 1, 3
_CLASS_64 = 2
_BIG_ENDIAN = 2
_X86_64 = 62
# e_machine of what people have at hand (System V ABI, "Machine"); others are named by number.
_MACHINES = {
    3: "i386",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S/390",
    40: "ARM",
    _X86_64: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    258: "LoongArch",
}


@dataclass(frozen=True)
class Segment:
    """A run of the guest's memory that a kernel fills.

    :param gpa: guest physical address.
    :param size: bytes of memory; those behind ``file_size`` are zero.
    :param offset: where its bytes start in the image.
    :param file_size: bytes that come from the image.
    """

    gpa: int
    size: int
    offset: int
    file_size: int

    @property
    def end(self) -> int:
        """First guest physical address behind the segment."""
        return self.gpa + self.size


def parse(path: str, content: Content) -> tuple[int, tuple[Segment, ...]]:
    """``(entry, segments)`` of an ELF image, as physical addresses.

    :param path: for errors.
    :raises ImageError: another architecture, 32 bits, nothing to load, or a truncated file.
    """
    start = content.read(0, _HEADER.size)
    _check_machine(path, start)
    if len(start) < _HEADER.size:
        raise ImageError(f"{path}: truncated: {len(start)} bytes of an ELF header of {_HEADER.size}")
    _, _, _, _, entry, table, _, _, _, entry_size, count, *_ = _HEADER.unpack(start)
    if entry_size != _PROGRAM_HEADER.size:
        raise ImageError(
            f"{path}: its ELF program headers have {entry_size} bytes instead of {_PROGRAM_HEADER.size}"
        )
    headers = content.read(table, count * entry_size)
    if len(headers) < count * entry_size:
        raise ImageError(f"{path}: truncated: its ELF program headers lie behind the end of the file")
    segments = tuple(_segments(path, headers, content.length))
    if not any(segment.gpa <= entry < segment.end for segment in segments):
        raise ImageError(f"{path}: its ELF entry point {entry:#x} is in none of its {len(segments)} segments")
    return entry, segments


def _check_machine(path: str, start: bytes) -> None:
    if len(start) < 20:
        raise ImageError(f"{path}: truncated: {len(start)} bytes of an ELF header")
    bits = 64 if start[4] == _CLASS_64 else 32
    machine = int.from_bytes(start[18:20], "big" if start[5] == _BIG_ENDIAN else "little")
    if (bits, machine) != (64, _X86_64):
        found = _MACHINES.get(machine, f"unknown (e_machine {machine})")
        raise ImageError(
            f"{path}: a {bits}-bit ELF file for {found}; this machine boots 64-bit x86-64 kernels"
        )


def _segments(path: str, headers: bytes, length: int) -> list[Segment]:
    found = []
    for kind, _, offset, _, gpa, file_size, size, _ in _PROGRAM_HEADER.iter_unpack(headers):
        if kind == _PT_INTERP:
            raise ImageError(f"{path}: an ELF program for an operating system, not a kernel")
        if kind != _PT_LOAD or not size:
            continue
        if file_size > size:
            raise ImageError(f"{path}: its ELF segment at {gpa:#x} has more bytes in the file than in memory")
        if offset + file_size > length:
            raise ImageError(
                f"{path}: truncated: its ELF segment at {gpa:#x} ends at byte {offset + file_size}, "
                f"the image has {length}"
            )
        found.append(Segment(gpa, size, offset, file_size))
    return found

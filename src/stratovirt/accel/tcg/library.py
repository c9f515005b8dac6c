"""libunicorn: found, checked and loaded with the glue in front of it.

The law: the glue is loaded with its symbols global and before libunicorn, so that the functions it defines
(``helper_rdmsr_x86_64``, ``tlb_protect_code_x86_64``, …) are found first. A library that is not exactly the
one the glue was written for is refused, in one sentence.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from stratovirt.errors import AcceleratorUnavailable

BUILD_ID = "44285d3e80527122e9e361928189385906ec813e"
"""Of libunicorn.so.2 in unicorn-2.1.4-py2.py3-none-manylinux_2_5_x86_64: glue/unicorn.h knows its insides."""

CALIBRATION_NS = 10_000_000
"""Shortest time over which the TSC is compared with the clock: 10 ms, for an error of some 10 ppm."""

_PT_NOTE = 4
_NT_GNU_BUILD_ID = 3


def _import_glue() -> tuple[Any, Any]:
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        from stratovirt.accel.tcg._tcg import ffi, lib
    finally:
        sys.setdlopenflags(flags)
    return ffi, lib


ffi, lib = _import_glue()


def _sample_clock() -> tuple[int, int]:
    nanoseconds, tsc = ffi.new("int64_t *"), ffi.new("uint64_t *")
    lib.tcg_sample_clock(nanoseconds, tsc)
    return nanoseconds[0], tsc[0]


_IMPORTED = _sample_clock()
"""Where the measurement of the TSC begins: imports and the library's own loading fill its time."""


@functools.cache
def load() -> int:
    """Load libunicorn into this process, once.

    :returns: frequency of the host's TSC in Hz, measured since this module was imported.
    :raises AcceleratorUnavailable: it is missing, or not the one that the glue knows.
    """
    path = _find()
    if build_id(path) != BUILD_ID:
        raise AcceleratorUnavailable(
            f"accel tcg: {path} is not the library of the unicorn 2.1.4 wheel for x86_64"
        )
    problem = lib.tcg_load(os.fsencode(path))
    if problem != ffi.NULL:
        raise AcceleratorUnavailable(f"accel tcg: {path} cannot be used: {ffi.string(problem).decode()}")
    return _frequency_since(*_IMPORTED)


def _find() -> Path:
    """Path of libunicorn, without importing the Python package around it (150 ms)."""
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise AcceleratorUnavailable("accel tcg: the Python package unicorn 2.1.4 is not installed")
    path = Path(spec.submodule_search_locations[0], "lib", "libunicorn.so.2")
    if not path.is_file():
        raise AcceleratorUnavailable(
            f"accel tcg: {path} is missing; is unicorn 2.1.4 installed from its wheel?"
        )
    return path


def build_id(path: Path) -> str | None:
    """GNU build id of a 64-bit ELF file in hexadecimal, or None. Source: ELF-64 object file format, notes."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or not header.startswith(b"\x7fELF\x02\x01"):
            return None
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        for index in range(count):
            file.seek(offset + index * size)
            kind, _, start, _, _, length, *_ = struct.unpack("<IIQQQQQQ", file.read(56))
            found = _build_id_in(file, start, length) if kind == _PT_NOTE else None
            if found:
                return found
    return None


def _build_id_in(file: BinaryIO, start: int, length: int) -> str | None:
    file.seek(start)
    notes = file.read(length)
    while len(notes) >= 12:
        name_size, size, kind = struct.unpack_from("<III", notes)
        begin = 12 + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[12:16] == b"GNU\0":
            return notes[begin : begin + size].hex()
        notes = notes[begin + (size + 3 & ~3) :]
    return None


def _frequency_since(nanoseconds: int, tsc: int) -> int:
    """TSC ticks per second since a sample, which is made CALIBRATION_NS old where it is younger."""
    while True:
        now, ticks = _sample_clock()
        if now - nanoseconds >= CALIBRATION_NS:
            return (ticks - tsc) * 1_000_000_000 // (now - nanoseconds)

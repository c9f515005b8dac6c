# SPDX-License-Identifier: GPL-2.0-only
"""Builds ``stratovirt.accel.tcg._tcg`` from the C files in glue/ (cffi, API mode).

The extension is not linked against libunicorn: it is loaded before it, with its symbols global, so that its
own versions of a few functions are found first (:mod:`stratovirt.accel.tcg.library`).
"""

from pathlib import Path

from cffi import FFI

GLUE = Path(__file__).parent / "glue"
NATIVE = Path(__file__).parents[2] / "native"
SOURCES = (
    "clock.c",
    "library.c",
    "code.c",
    "blocks.c",
    "tlb.c",
    "instructions.c",
    "exits.c",
    "startup.c",
    "attention.c",
    "schedule.c",
    "machine.c",
    "state.c",
)

ffi = FFI()
ffi.cdef((GLUE / "interface.h").read_text())
ffi.cdef(f'extern "Python+C" {{\n{(GLUE / "callbacks.h").read_text()}\n}}')
ffi.set_source(
    "stratovirt.accel.tcg._tcg",
    "\n".join(f'#include "{name}"' for name in SOURCES),  # one translation unit
    include_dirs=[str(GLUE), str(NATIVE)],
    depends=[str(path) for path in (*sorted(GLUE.iterdir()), NATIVE / "native.h")],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffi.compile(tmpdir="src", verbose=True)

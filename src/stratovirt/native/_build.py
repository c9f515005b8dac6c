"""Builds ``stratovirt.native._native`` from the C files beside it (cffi, API mode)."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = ("block.c", "heap.c", "line.c", "net.c", "pages.c", "uart.c")

ffi = FFI()
ffi.cdef((HERE / "interface.h").read_text())
ffi.set_source(
    "stratovirt.native._native",
    "\n".join(f'#include "{name}"' for name in SOURCES),  # one translation unit
    include_dirs=[str(HERE)],
    depends=[str(path) for path in sorted(HERE.glob("*.[ch]")) if path.name != "_native.c"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall"],
)

if __name__ == "__main__":
    ffi.compile(tmpdir="src", verbose=True)

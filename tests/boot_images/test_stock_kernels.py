"""Debian's kernels, as shipped, are loaded; skipped where they can be neither found nor fetched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stratovirt.boot import BootRequest, plan, read_kernel
from stratovirt.errors import ConfigError
from stratovirt.memory import GuestMemory
from tests.boot_images.conftest import RAM
from tests.guests import cloud_kernel, generic_kernel


@pytest.fixture(params=[cloud_kernel, generic_kernel])
def kernel(request: pytest.FixtureRequest) -> Path:
    find: Callable[[], Path] = request.param
    try:
        return find()
    except ConfigError as error:
        pytest.skip(str(error))


def test_stock_kernel_fits_128_mib_and_has_acpi(kernel: Path, memory: GuestMemory) -> None:
    request = BootRequest(str(kernel), None, "console=ttyS0", RAM)
    prepared = plan(request)
    start = prepared.load(memory)
    assert (prepared.kernel_kind, prepared.acpi, start.rip) == ("bzImage", True, 0x100_0000)


def test_stock_kernel_is_what_readelf_sees(kernel: Path, tmp_path: Path) -> None:
    image = read_kernel(str(kernel))
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(image.content.read(0, image.content.length))
    try:
        done = subprocess.run(
            ["readelf", "-lW", vmlinux], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("readelf (Debian's binutils) is not installed")
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["LOAD"]]
    expected = [tuple(int(row[column], 16) for column in (1, 3, 4, 5)) for row in rows]
    assert [(s.offset, s.gpa, s.file_size, s.size) for s in image.segments] == expected

"""A kernel is recognised by its content and laid out as its format says."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratovirt.boot import read_kernel
from stratovirt.boot.content import Content
from stratovirt.boot.image import RAW_ADDRESS
from stratovirt.memory import GuestMemory
from tests.boot_images import builders

TEXT = bytes(range(256)) * 64
DATA = b"RSD PTR " + b"data" * 100
KERNEL = builders.elf_kernel([(0x100_0000, TEXT, len(TEXT)), (0x200_0000, DATA, len(DATA) + 5000)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kernel"


def test_elf_segments_go_to_their_physical_addresses(file: Path, memory: GuestMemory) -> None:
    file.write_bytes(KERNEL)
    image = read_kernel(str(file))
    image.write(memory)
    assert (image.kind, image.entry, image.end) == ("ELF", 0x100_0000, 0x200_0000 + len(DATA) + 5000)
    assert memory.read(0x100_0000, len(TEXT)) == TEXT
    assert memory.read(0x200_0000, len(DATA)) == DATA


def test_memory_behind_a_segments_bytes_becomes_zero(file: Path, memory: GuestMemory) -> None:
    file.write_bytes(KERNEL)
    memory.write(0x200_0000, b"\xff" * 8192)
    read_kernel(str(file)).write(memory)
    assert memory.read(0x200_0000 + len(DATA), 5000) == bytes(5000)
    assert memory.read(0x200_0000 + len(DATA) + 5000, 1) == b"\xff"


def test_writes_are_announced_to_the_accelerator(file: Path, memory: GuestMemory) -> None:
    file.write_bytes(KERNEL)
    seen: list[tuple[int, int]] = []
    memory.written = lambda gpa, length: seen.append((gpa, length))
    read_kernel(str(file)).write(memory)
    assert seen == [(0x100_0000, len(TEXT)), (0x200_0000, len(DATA) + 5000)]


@pytest.mark.parametrize("compression", builders.COMPRESSORS)
def test_bzimage_is_decompressed_to_its_elf_kernel(compression: str, file: Path, memory: GuestMemory) -> None:
    file.write_bytes(builders.bzimage(builders.payload(KERNEL, compression)))
    image = read_kernel(str(file))
    image.write(memory)
    assert (image.kind, image.entry) == ("bzImage", 0x100_0000)
    assert memory.read(0x100_0000, len(TEXT)) == TEXT
    assert memory.read(0x200_0000, len(DATA)) == DATA


def test_lz4_segments_may_span_blocks(file: Path, memory: GuestMemory) -> None:
    packed = builders.lz4_legacy(KERNEL, block=1000) + len(KERNEL).to_bytes(4, "little")
    file.write_bytes(builders.bzimage(packed))
    read_kernel(str(file)).write(memory)
    assert memory.read(0x100_0000, len(TEXT)) == TEXT


def test_bzimage_keeps_its_own_header(file: Path) -> None:
    packed = builders.payload(KERNEL)
    file.write_bytes(builders.bzimage(packed, protocol=0x020C, cmdline_size=300, initrd_addr_max=0x37FF_FFFF))
    header = read_kernel(str(file)).header
    assert (header.protocol, header.cmdline_size, header.initrd_addr_max) == (0x020C, 300, 0x37FF_FFFF)


def test_raw_image_is_loaded_and_entered_at_16_mib(file: Path, memory: GuestMemory) -> None:
    file.write_bytes(b"\xf4" * 5000)
    image = read_kernel(str(file))
    image.write(memory)
    assert (image.kind, image.entry) == ("raw", RAW_ADDRESS)
    assert memory.read(RAW_ADDRESS, 5000) == b"\xf4" * 5000


@pytest.mark.parametrize(("data", "expected"), [(DATA, True), (b"no table in here", False)])
def test_acpi_support_shows_in_the_decompressed_kernel(data: bytes, expected: bool, file: Path) -> None:
    kernel = builders.elf_kernel([(0x100_0000, data, len(data))])
    file.write_bytes(builders.bzimage(builders.payload(kernel)))
    assert read_kernel(str(file)).knows_acpi is expected


@pytest.mark.parametrize("cut", range(17))
def test_a_mark_is_found_wherever_pieces_are_cut(cut: int) -> None:
    whole = b"1234RSD PTR 5678"
    assert Content([whole[:cut], whole[cut:]]).contains(b"RSD PTR ")
    assert Content([bytes([byte]) for byte in whole]).contains(b"RSD PTR ")
    assert not Content([whole[:cut], whole[cut:]]).contains(b"RSD PTR 6")

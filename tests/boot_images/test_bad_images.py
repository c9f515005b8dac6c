"""A file that cannot be loaded gives one sentence that starts with its path, and nothing else.

Whatever a file holds, reading it ends in a KernelImage or in an ImageError.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stratovirt.boot import KernelImage, read_kernel
from stratovirt.boot.decompress import MAX_IMAGE
from stratovirt.errors import ImageError
from tests.boot_images import builders

KERNEL = builders.elf_kernel([(0x100_0000, bytes(range(256)) * 8, 4096)])
BZIMAGE = builders.bzimage(builders.payload(KERNEL))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "kernel"


def refusal(file: Path, content: bytes) -> str:
    """Why ``content`` is refused."""
    file.write_bytes(content)
    return reason(file)


def reason(file: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_kernel(str(file))
    path, text = str(caught.value).split(": ", 1)
    assert path == str(file)
    assert "\n" not in text
    return text


def read(file: Path, content: bytes) -> KernelImage | None:
    """The image, or None when it was refused as it should be."""
    file.write_bytes(content)
    try:
        return read_kernel(str(file))
    except ImageError as error:
        refused = error
    assert str(refused).startswith(f"{file}: ")
    return None


def test_missing_file(tmp_path: Path) -> None:
    assert reason(tmp_path / "none") == "No such file or directory"


def test_directory(tmp_path: Path) -> None:
    assert reason(tmp_path) == "is a directory"


def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert reason(tmp_path / "fifo") == "is not a regular file"


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A kernel that this process may not read; root may read any file, so it is nobody for a while."""
    path = tmp_path / "secret"
    path.write_bytes(BZIMAGE)
    path.chmod(0)
    uid = os.geteuid()
    os.seteuid(65534 if uid == 0 else uid)
    yield path
    os.seteuid(uid)


def test_file_without_permission(secret: Path) -> None:
    assert reason(secret) == "Permission denied"


def test_empty_file(file: Path) -> None:
    assert refusal(file, b"") == "is empty"


@pytest.mark.parametrize(
    ("machine", "byte_order", "name"),
    [
        (183, "<", "AArch64"),
        (243, "<", "RISC-V"),
        (22, ">", "S/390"),
        (21, ">", "PowerPC64"),
        (4711, "<", "4711"),
    ],
)
def test_elf_for_another_architecture_is_named(machine: int, byte_order: str, name: str, file: Path) -> None:
    text = refusal(file, builders.elf_kernel([], machine=machine, byte_order=byte_order))
    assert name in text
    assert "x86-64" in text


def test_32_bit_elf(file: Path) -> None:
    assert "32-bit ELF file for i386" in refusal(file, builders.elf_kernel([], bits=32, machine=3))


def test_arm_image_is_named(file: Path) -> None:
    assert "AArch64" in refusal(file, b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(1000))


def test_elf_without_segments(file: Path) -> None:
    assert "entry point" in refusal(file, builders.elf_kernel([]))


def test_a_program_is_not_a_kernel() -> None:
    assert reason(Path("/bin/ls")) == "an ELF program for an operating system, not a kernel"


def test_elf_entered_outside_its_segments(file: Path) -> None:
    assert "0x900000" in refusal(file, builders.elf_kernel([(0x100_0000, b"code", 4)], entry=0x90_0000))


def test_elf_segment_with_more_bytes_than_memory(file: Path) -> None:
    assert "more bytes in the file" in refusal(file, builders.elf_kernel([(0x100_0000, b"code", 3)]))


def test_32_bit_bzimage(file: Path) -> None:
    assert "32-bit kernel" in refusal(file, builders.bzimage(builders.payload(KERNEL), xloadflags=0))


def test_bzimage_too_old_to_find_its_payload(file: Path) -> None:
    assert "protocol 2.07" in refusal(file, builders.bzimage(builders.payload(KERNEL), protocol=0x0207))


def test_zimage(file: Path) -> None:
    assert "zImage" in refusal(file, builders.bzimage(builders.payload(KERNEL), loadflags=0))


def test_unknown_compression_names_its_magic(file: Path) -> None:
    assert "89 4c 5a 4f 00 0d" in refusal(file, builders.bzimage(b"\x89LZO\0\r" + bytes(100)))


def test_payload_that_is_no_elf_file(file: Path) -> None:
    assert "not an ELF kernel" in refusal(file, builders.bzimage(builders.payload(b"just text")))


@pytest.mark.parametrize("compression", builders.COMPRESSORS)
@pytest.mark.parametrize("announced", [0, 1, len(KERNEL) - 1, len(KERNEL) + 1, MAX_IMAGE + 1, 0xFFFF_FFFF])
def test_payload_of_another_size_than_announced(announced: int, compression: str, file: Path) -> None:
    packed = builders.payload(KERNEL, compression)[:-4] + struct.pack("<I", announced)
    text = refusal(file, builders.bzimage(packed))
    assert "damaged" in text or "claims" in text


@pytest.mark.parametrize("compression", builders.COMPRESSORS)
def test_bzimage_truncated_anywhere_in_its_header(compression: str, file: Path) -> None:
    """Up to the magic number nothing tells a bzImage but "MZ"; behind it, it is known to be truncated."""
    image = builders.bzimage(builders.payload(KERNEL, compression))
    for length in (2, 0x1F1, 0x202, 0x205, 0x206, 0x24F, 0x263, 0x26B, 0x26C, 0x290, 512 * 4):
        assert "truncated" in refusal(file, image[:length])


@pytest.mark.parametrize("compression", builders.COMPRESSORS)
def test_bzimage_truncated_in_its_payload(compression: str, file: Path) -> None:
    image = builders.bzimage(builders.payload(KERNEL, compression))
    end = builders.payload_end(image)
    for length in (
        end - 1,
        end - 4,
        end - 5,
        512 * 4 + builders.PAYLOAD_OFFSET,
        512 * 4 + builders.PAYLOAD_OFFSET + 1,
    ):
        assert "truncated" in refusal(file, image[:length])
    assert read(file, image[:end]) is not None


def test_elf_truncated_at_every_byte(file: Path) -> None:
    kernel = builders.elf_kernel([(0x100_0000, b"code" * 8, 32)])
    for length in range(4, len(kernel)):
        assert "truncated" in refusal(file, kernel[:length])
    assert read(file, kernel) is not None


@pytest.mark.parametrize(
    "start", [b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"070701", b"#!/bin/sh\n"]
)
def test_what_is_known_to_be_something_else_is_not_run_as_a_raw_image(start: bytes, file: Path) -> None:
    assert " a" in f" {refusal(file, start + bytes(4096))}"


@given(content=st.binary(max_size=2000))
@example(content=b"\x7fELF")
@example(content=bytes(0x202) + b"HdrS")
def test_any_bytes_give_an_image_or_an_image_error(file: Path, content: bytes) -> None:
    """Any bytes give a KernelImage or an ImageError."""
    image = read(file, content)
    assert image is None or image.content.length == len(content)


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)


@pytest.mark.parametrize("compression", [*builders.COMPRESSORS, None])
@given(changes=edits, length=st.floats(0, 1))
def test_a_damaged_kernel_gives_an_image_or_an_image_error(
    compression: str | None, file: Path, changes: list[tuple[float, int]], length: float
) -> None:
    """A real image with changed bytes and a cut end gives a KernelImage within bounds, or an ImageError."""
    image = bytearray(builders.bzimage(builders.payload(KERNEL, compression)) if compression else KERNEL)
    for position, value in changes:
        image[int(position * len(image))] = value
    found = read(file, bytes(image[: int(length * len(image))]))
    assert found is None or all(s.offset + s.file_size <= found.content.length for s in found.segments)


@given(changes=edits)
def test_a_damaged_elf_header_inside_a_payload_gives_an_image_or_an_image_error(
    file: Path, changes: list[tuple[float, int]]
) -> None:
    """Well compressed, ill formed: what is decompressed is trusted no more than the file."""
    kernel = bytearray(KERNEL)
    for position, value in changes:
        kernel[int(position * 120)] = value  # ELF and program header
    found = read(file, builders.bzimage(builders.payload(bytes(kernel))))
    assert found is None or found.segments

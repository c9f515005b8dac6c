"""Kernel images: what kind a file is, and which guest memory it fills.

The law of this file: any bytes give a :class:`KernelImage` or an :class:`ImageError` that starts
with the path, and guest memory is not needed to tell which.

=========== =============================== ==================================================
kind        recognised by                   loaded
=========== =============================== ==================================================
bzImage     "HdrS" at 0x202                 its payload, decompressed here, is an ELF kernel
ELF         0x7F "ELF"                      each segment at its physical address
raw         anything that is not known to   whole, at 16 MiB, entered in 64-bit mode at its
            be something else               first byte: ``objcopy -O binary vmlinux vmlinux.bin``
=========== =============================== ==================================================
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass

from stratovirt.boot import bzimage, elf
from stratovirt.boot.bzimage import SetupHeader
from stratovirt.boot.content import Content
from stratovirt.boot.decompress import decompress
from stratovirt.boot.elf import Segment
from stratovirt.errors import ImageError
from stratovirt.memory import GuestMemory

# CONFIG_PHYSICAL_START of x86_64 kernels, and StratoVirt's VMLINUX_STARTUP.
RAW_ADDRESS = 16 << 20
# BIOS data, boot parameters and ACPI tables live below.
LOWEST_ADDRESS = 1 << 20
# What every kernel with ACPI support searches for, hence holds (ACPI 6.4 §5.2.5.3).
RSDP_SIGNATURE = b"RSD PTR "

# Offset, bytes and name of files that people pass by mistake and that a raw image does not begin with.
_NOT_KERNELS = (
    (0x38, b"ARM\x64", "a kernel for AArch64; this machine boots 64-bit x86-64 kernels"),
    (0x38, b"RSC\x05", "a kernel for RISC-V; this machine boots 64-bit x86-64 kernels"),
    (0, b"MZ", "an EFI program without a Linux setup header, or a truncated bzImage"),
    (0, b"\x1f\x8b", "a gzip file; a kernel must be a bzImage, an ELF file or a raw image"),
    (0, b"\xfd7zXZ", "an xz file; a kernel must be a bzImage, an ELF file or a raw image"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file; a kernel must be a bzImage, an ELF file or a raw image"),
    (0, b"\x02\x21\x4c\x18", "an lz4 file; a kernel must be a bzImage, an ELF file or a raw image"),
    (0, b"07070", "a cpio archive: an initrd rather than a kernel"),
    (0, b"#!", "a script"),
)


@dataclass(frozen=True)
class KernelImage:
    """A kernel that can be loaded.

    :param path: the file.
    :param kind: ``bzImage``, ``ELF`` or ``raw``.
    :param entry: guest physical address of its 64-bit entry point.
    :param segments: what it fills.
    :param header: its setup header; one made up for an image that has none.
    :param content: its bytes, decompressed.
    """

    path: str
    kind: str
    entry: int
    segments: tuple[Segment, ...]
    header: SetupHeader
    content: Content

    @property
    def end(self) -> int:
        """First guest physical address behind the kernel."""
        return max(segment.end for segment in self.segments)

    @property
    def knows_acpi(self) -> bool:
        """Whether the kernel was built with ACPI support."""
        return self.content.contains(RSDP_SIGNATURE)

    def check_fits(self, ram_end: int) -> None:
        """Raise unless every segment lies between 1 MiB and ``ram_end``, the end of RAM below 4 GiB.

        :raises ImageError: which segment does not.
        """
        for segment in self.segments:
            if segment.gpa < LOWEST_ADDRESS or segment.end > ram_end:
                raise ImageError(
                    f"{self.path}: its segment {segment.gpa:#x} to {segment.end:#x} is outside the RAM "
                    f"for kernels, {LOWEST_ADDRESS:#x} to {ram_end:#x}"
                )

    def write(self, memory: GuestMemory) -> None:
        """Put every segment where it belongs; memory behind its bytes becomes zero."""
        for segment in self.segments:
            with memory.view(segment.gpa, segment.size) as target:
                self.content.copy_to(target[: segment.file_size], segment.offset)
                target[segment.file_size :] = bytes(segment.size - segment.file_size)
            memory.written(segment.gpa, segment.size)


def read_kernel(path: str) -> KernelImage:
    """Open, recognise and, where needed, decompress a kernel.

    An ELF or raw file stays mapped for as long as the image is in use.

    :raises ImageError: there is no kernel for this machine in the file.
    """
    data = _map(path)
    if data[bzimage.MAGIC_OFFSET : bzimage.MAGIC_OFFSET + 4] == bzimage.MAGIC:
        return _bzimage(path, data)
    if data[:4] == elf.MAGIC:
        content = Content([data])
        return KernelImage(path, "ELF", *elf.parse(path, content), bzimage.header_of_elf(), content)
    return _raw(path, data)


def file_size(path: str) -> int:
    """Size in bytes of a regular file that can be read and is not empty.

    :raises ImageError: it is not one.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path}: is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: is not a regular file")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    if not status.st_size:
        raise ImageError(f"{path}: is empty")
    return status.st_size


def _map(path: str) -> memoryview:
    """The file's bytes, mapped: nothing is read that is not used."""
    length = file_size(path)
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ))
    except (OSError, ValueError) as error:  # ValueError: the file shrank since its size was taken
        raise ImageError(f"{path}: {error}") from error


def _bzimage(path: str, data: memoryview) -> KernelImage:
    header = bzimage.parse(path, data)
    offset, length = header.payload
    content = Content(decompress(path, data[offset : offset + length]))
    if content.read(0, 4) != elf.MAGIC:
        raise ImageError(f"{path}: its decompressed payload is not an ELF kernel")
    return KernelImage(path, "bzImage", *elf.parse(path, content), header, content)


def _raw(path: str, data: memoryview) -> KernelImage:
    for offset, magic, what in _NOT_KERNELS:
        if data[offset : offset + len(magic)] == magic:
            raise ImageError(f"{path}: {what}")
    segment = Segment(RAW_ADDRESS, len(data), 0, len(data))
    return KernelImage(path, "raw", RAW_ADDRESS, (segment,), bzimage.header_of_elf(), Content([data]))

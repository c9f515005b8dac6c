"""The setup header of a bzImage (Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").

Offsets are those of the file, which are also those of ``struct boot_params``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from stratovirt.errors import ImageError

MAGIC = b"HdrS"
MAGIC_OFFSET = 0x202

START = 0x1F1
# The header may grow up to edd_mbr_sig_buffer in struct boot_params.
MAX_END = 0x290
FIXED_END = 0x264  # behind init_size, the last field read here (protocol 2.10)
SECTOR = 512
DEFAULT_SETUP_SECTORS = 4
BOOT_FLAG = 0xAA55
LOADED_HIGH = 0x01
XLF_KERNEL_64 = 0x01
# payload_offset and payload_length came with 2.08 (Linux 2.6.26), xloadflags with 2.12 (3.8).
PAYLOAD_PROTOCOL = 0x0208
XLOADFLAGS_PROTOCOL = 0x020C

# What a kernel without a header gets: the values every x86-64 bzImage since Linux 3.8 carries.
ELF_PROTOCOL = 0x020F
ELF_INITRD_ADDR_MAX = 0x7FFF_FFFF
ELF_CMDLINE_SIZE = 2047
ELF_ALIGNMENT = 2 << 20


@dataclass(frozen=True)
class SetupHeader:
    """What a kernel says about itself to its loader.

    :param raw: the header's bytes, which belong at offset 0x1F1 of boot_params.
    """

    raw: bytes

    @property
    def protocol(self) -> int:
        """Boot protocol version, 0x020F for 2.15."""
        return self._field(0x206, "<H")

    @property
    def initrd_addr_max(self) -> int:
        """Highest address that the initrd's last byte may have."""
        return self._field(0x22C, "<I")

    @property
    def cmdline_size(self) -> int:
        """Bytes of command line, without the terminating zero."""
        return self._field(0x238, "<I")

    @property
    def payload(self) -> tuple[int, int]:
        """``(offset in the file, length)`` of the compressed kernel."""
        sectors = self._field(0x1F1, "B") or DEFAULT_SETUP_SECTORS
        return (sectors + 1) * SECTOR + self._field(0x248, "<I"), self._field(0x24C, "<I")

    def _field(self, offset: int, code: str) -> int:
        value: Any = struct.unpack_from(code, self.raw, offset - START)[0]
        return int(value)

    def check(self, path: str, file_length: int) -> None:
        """Raise unless this is a whole 64-bit bzImage whose payload can be decompressed.

        :raises ImageError: what is wrong, in one sentence that starts with ``path``.
        """
        if self._field(0x1FE, "<H") != BOOT_FLAG or not self._field(0x211, "B") & LOADED_HIGH:
            raise ImageError(f"{path}: not a bzImage: a boot sector or zImage kernel")
        if self.protocol < PAYLOAD_PROTOCOL:
            version = f"{self.protocol >> 8}.{self.protocol & 0xFF:02}"
            raise ImageError(
                f"{path}: its boot protocol {version} is too old; 2.08 (Linux 2.6.26) is the oldest"
            )
        if self.protocol >= XLOADFLAGS_PROTOCOL and not self._field(0x236, "<H") & XLF_KERNEL_64:
            raise ImageError(f"{path}: a 32-bit kernel; this machine boots 64-bit x86-64 kernels")
        offset, length = self.payload
        if offset + length > file_length:
            raise ImageError(
                f"{path}: truncated: a bzImage of {offset + length} bytes or more, of which {file_length}"
            )


def parse(path: str, data: memoryview) -> SetupHeader:
    """The setup header of the bzImage ``data``, checked.

    :raises ImageError: truncated, 32-bit, too old.
    """
    end = min(
        MAGIC_OFFSET + data[MAGIC_OFFSET - 1], MAX_END
    )  # 0x201 is a short jump's distance, over the header
    if len(data) < end:
        raise ImageError(f"{path}: truncated: {len(data)} bytes of a bzImage whose header has {end}")
    header = SetupHeader(bytes(data[START:end]).ljust(FIXED_END - START, b"\0"))
    header.check(path, len(data))
    return header


def header_of_elf() -> SetupHeader:
    """The header to be given to a kernel that has none: an ELF or raw image."""
    raw = bytearray(FIXED_END - START)
    for offset, code, value in (
        (0x1FE, "<H", BOOT_FLAG),
        (MAGIC_OFFSET, "4s", MAGIC),
        (0x206, "<H", ELF_PROTOCOL),
        (0x211, "B", LOADED_HIGH),
        (0x22C, "<I", ELF_INITRD_ADDR_MAX),
        (0x230, "<I", ELF_ALIGNMENT),
        (0x236, "<H", XLF_KERNEL_64),
        (0x238, "<I", ELF_CMDLINE_SIZE),
    ):
        struct.pack_into(code, raw, offset - START, value)
    return SetupHeader(bytes(raw))

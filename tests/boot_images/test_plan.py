"""A plan finds every error without guest memory; loading it leaves all that the guest was promised."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from stratovirt.boot import BootRequest, VirtioSlot, plan
from stratovirt.boot import lowmem as low
from stratovirt.errors import ImageError, OptionError
from stratovirt.memory import GuestMemory
from tests.boot_images import builders
from tests.boot_images.conftest import RAM

MIB = 1 << 20
ACPI_KERNEL = b"RSD PTR " + b"\x90" * 4088
SLOTS = (VirtioSlot(0xF010_0000, 0x200, 16), VirtioSlot(0xF010_0200, 0x200, 17))
ARGUMENTS = "virtio_mmio.device=512@0xf0100000:16 virtio_mmio.device=512@0xf0100200:17"
INITRD = b"070701" + bytes(range(256)) * 40


def elf(path: Path, content: bytes = ACPI_KERNEL, *, gpa: int = 16 * MIB, size: int = 0) -> str:
    path.write_bytes(builders.elf_kernel([(gpa, content, max(size, len(content)))], entry=gpa))
    return str(path)


@pytest.fixture
def request_for(tmp_path: Path) -> BootRequest:
    """A request that can be fulfilled."""
    initrd = tmp_path / "initrd"
    initrd.write_bytes(INITRD)
    return BootRequest(elf(tmp_path / "kernel"), str(initrd), "console=ttyS0", RAM, cpus=2, slots=SLOTS)


def field(memory: GuestMemory, offset: int, size: int) -> int:
    """A little-endian field of boot_params."""
    return int.from_bytes(memory.read(low.BOOT_PARAMS + offset, size), "little")


def test_kernel_is_entered_with_its_boot_parameters(request_for: BootRequest, memory: GuestMemory) -> None:
    start = plan(request_for).load(memory)
    assert (start.rip, start.rsi) == (16 * MIB, low.BOOT_PARAMS)
    assert field(memory, 0x202, 4).to_bytes(4, "little") == b"HdrS"
    assert field(memory, 0x210, 1) == 0xFF  # type_of_loader: an unassigned one
    assert field(memory, 0x1EF, 1) == 0  # sentinel


def test_command_line_is_terminated(request_for: BootRequest, memory: GuestMemory) -> None:
    memory.write(low.CMDLINE, b"\xff" * 4096)
    plan(request_for).load(memory)
    assert memory.read(field(memory, 0x228, 4), 14) == b"console=ttyS0\0"


def test_initrd_lies_at_the_end_of_ram(request_for: BootRequest, memory: GuestMemory) -> None:
    plan(request_for).load(memory)
    address, size = field(memory, 0x218, 4), field(memory, 0x21C, 4)
    assert memory.read(address, size) == INITRD
    assert address % 4096 == 0
    assert RAM - 4096 < address + size <= RAM


def test_initrd_lies_where_the_kernel_can_reach_it(request_for: BootRequest, tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    packed = builders.payload(builders.elf_kernel([(16 * MIB, ACPI_KERNEL, 4096)]))
    kernel.write_bytes(builders.bzimage(packed, initrd_addr_max=64 * MIB - 1))
    with_limit = dataclasses.replace(request_for, kernel=str(kernel))
    memory = GuestMemory.allocate(RAM)
    plan(with_limit).load(memory)
    address, size = field(memory, 0x218, 4), field(memory, 0x21C, 4)
    memory.close()
    assert 64 * MIB - 4096 < address + size <= 64 * MIB


def test_no_initrd_leaves_its_fields_zero(request_for: BootRequest, memory: GuestMemory) -> None:
    plan(dataclasses.replace(request_for, initrd=None)).load(memory)
    assert (field(memory, 0x218, 4), field(memory, 0x21C, 4)) == (0, 0)


def test_a_second_load_repairs_what_the_guest_overwrote(
    request_for: BootRequest, memory: GuestMemory
) -> None:
    prepared = plan(request_for)
    first = prepared.load(memory)
    contents = memory.read(0, RAM)
    for gpa in range(0, RAM, MIB):
        if any(contents[gpa : gpa + MIB]):
            memory.write(gpa, bytes(byte ^ 0xFF for byte in contents[gpa : gpa + 4096]))
    assert prepared.load(memory) == first
    assert memory.read(16 * MIB, 4096) == ACPI_KERNEL
    for gpa in (low.BOOT_PARAMS, low.PAGE_TABLES, low.ACPI_TABLES, field(memory, 0x218, 4)):
        assert memory.read(gpa, 512) == contents[gpa : gpa + 512]


def test_a_second_load_reads_the_files_anew(request_for: BootRequest, memory: GuestMemory) -> None:
    prepared = plan(request_for)
    prepared.load(memory)
    elf(Path(request_for.kernel), b"RSD PTR " + b"new" * 100)
    prepared.load(memory)
    assert memory.read(16 * MIB, 308) == b"RSD PTR " + b"new" * 100


def test_a_second_load_without_its_kernel_is_an_image_error(
    request_for: BootRequest, memory: GuestMemory
) -> None:
    prepared = plan(request_for)
    prepared.load(memory)
    Path(request_for.kernel).unlink()
    with pytest.raises(ImageError, match="No such file"):
        prepared.load(memory)


def test_an_initrd_that_shrinks_before_it_is_loaded_is_an_image_error(
    request_for: BootRequest, memory: GuestMemory
) -> None:
    prepared = plan(request_for)
    Path(str(request_for.initrd)).write_bytes(b"short")
    with pytest.raises(ImageError, match=f"{request_for.initrd}: shrank from {len(INITRD)} to 5 bytes"):
        prepared.load(memory)


@pytest.mark.parametrize(
    ("gpa", "size"),
    [(16 * MIB, RAM - 16 * MIB + 1), (RAM, 1), (0, 4096), (MIB - 1, 4096), (1 << 63, 1 << 63)],
)
def test_a_kernel_outside_ram_is_refused(gpa: int, size: int, request_for: BootRequest) -> None:
    elf(Path(request_for.kernel), b"", gpa=gpa, size=size)
    with pytest.raises(ImageError, match=f"{request_for.kernel}: its segment {gpa:#x} to .* outside the RAM"):
        plan(request_for)


def test_a_raw_kernel_bigger_than_ram_is_refused(request_for: BootRequest) -> None:
    with open(request_for.kernel, "wb") as file:
        file.truncate(RAM)
    with pytest.raises(ImageError, match=f"{request_for.kernel}: .*outside the RAM"):
        plan(request_for)


def test_a_kernel_may_fill_ram_to_its_last_byte(request_for: BootRequest, memory: GuestMemory) -> None:
    elf(Path(request_for.kernel), ACPI_KERNEL, size=RAM - 16 * MIB)
    assert plan(dataclasses.replace(request_for, initrd=None)).load(memory).rip == 16 * MIB


@pytest.mark.parametrize("size", [RAM, 1 << 40, RAM - 16 * MIB - 4096 + 1])
def test_an_initrd_that_does_not_fit_behind_the_kernel_is_refused(
    size: int, request_for: BootRequest
) -> None:
    with open(str(request_for.initrd), "wb") as file:
        file.truncate(size)
    with pytest.raises(ImageError, match=f"{request_for.initrd}: an initrd of {size} bytes"):
        plan(request_for)


@pytest.mark.parametrize(("name", "problem"), [("none", "No such file"), ("", "is a directory")])
def test_an_unusable_initrd_is_refused(
    name: str, problem: str, request_for: BootRequest, tmp_path: Path
) -> None:
    path = tmp_path / name
    with pytest.raises(ImageError, match=f"^{path}: {problem}"):
        plan(dataclasses.replace(request_for, initrd=str(path)))


def test_command_line_limit_counts_no_terminating_zero(request_for: BootRequest) -> None:
    assert len(plan(dataclasses.replace(request_for, cmdline="x" * 2047)).cmdline) == 2047
    with pytest.raises(OptionError, match="-append: a command line of 2048 bytes; this kernel takes 2047"):
        plan(dataclasses.replace(request_for, cmdline="x" * 2048))


def test_command_line_limit_is_the_kernels_own(request_for: BootRequest) -> None:
    packed = builders.payload(builders.elf_kernel([(16 * MIB, ACPI_KERNEL, 4096)]))
    Path(request_for.kernel).write_bytes(builders.bzimage(packed, cmdline_size=255))
    with pytest.raises(OptionError, match="of 256 bytes; this kernel takes 255"):
        plan(dataclasses.replace(request_for, cmdline="x" * 256))


def test_command_line_limit_counts_the_devices_named_on_it(request_for: BootRequest) -> None:
    with pytest.raises(OptionError, match=f"{len(ARGUMENTS)} of them for virtio-mmio devices"):
        plan(dataclasses.replace(request_for, cmdline="x" * 2000, acpi="off"))


def test_acpi_kernel_gets_tables_and_no_device_arguments(
    request_for: BootRequest, memory: GuestMemory
) -> None:
    prepared = plan(request_for)
    prepared.load(memory)
    assert (prepared.acpi, prepared.cmdline) == (True, b"console=ttyS0")
    assert memory.read(field(memory, 0x070, 8), 8) == b"RSD PTR "
    assert memory.read(low.EBDA, 4) == bytes(4)


@pytest.mark.parametrize(
    ("acpi", "cmdline", "kernel"),
    [
        ("off", "quiet", ACPI_KERNEL),
        ("auto", "quiet acpi=off", ACPI_KERNEL),
        ("auto", "quiet", b"no ACPI here"),
    ],
)
def test_without_acpi_devices_are_on_the_command_line(
    acpi: Literal["on", "off", "auto"],
    cmdline: str,
    kernel: bytes,
    request_for: BootRequest,
    memory: GuestMemory,
) -> None:
    elf(Path(request_for.kernel), kernel)
    prepared = plan(dataclasses.replace(request_for, acpi=acpi, cmdline=cmdline))
    prepared.load(memory)
    assert (prepared.acpi, prepared.cmdline.decode()) == (False, f"{cmdline} {ARGUMENTS}")
    assert memory.read(low.EBDA, 4) == b"_MP_"
    assert field(memory, 0x070, 8) == 0
    assert memory.read(low.ACPI_TABLES, 8) == bytes(8)


@pytest.mark.parametrize("cmdline", ["acpi=offline", "xacpi=off", ""])
def test_only_the_very_word_turns_acpi_off(cmdline: str, request_for: BootRequest) -> None:
    assert plan(dataclasses.replace(request_for, cmdline=cmdline)).acpi


def test_acpi_on_is_not_second_guessed(request_for: BootRequest) -> None:
    elf(Path(request_for.kernel), b"no ACPI here")
    assert plan(dataclasses.replace(request_for, acpi="on")).acpi

"""Plan a boot, then load it.

The law of this file: a plan that exists has passed every check that its files, the command line and
the size of RAM allow, and no guest memory was needed for it. Loading writes each byte that the guest
relies on, so that it is the same for fresh RAM and for a reset.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from stratovirt.accel.features import UNCHANGED, Features
from stratovirt.accel.protocol import CpuStart
from stratovirt.accel.topology import Topology
from stratovirt.boot import acpi, lowmem, mptable, paging
from stratovirt.boot.bzimage import SetupHeader
from stratovirt.boot.image import KernelImage, file_size, read_kernel
from stratovirt.boot.params import Initrd, boot_params, write_bios_data, write_reset_vector
from stratovirt.boot.platform import Platform, VirtioSlot
from stratovirt.errors import ImageError, OptionError
from stratovirt.memory import GuestMemory, ram_ranges

_PAGE = 4096


@dataclass(frozen=True)
class BootRequest:
    """What to boot.

    :param kernel: path of the kernel.
    :param initrd: path of the initial RAM disk, if any.
    :param cmdline: the kernel's command line.
    :param memory_size: bytes of RAM, 128 MiB or more.
    :param cpus: 1 to 254.
    :param topology: where they sit.
    :param features: what their CPUID says, where it shall differ from the accelerator's own.
    :param slots: the virtio-mmio transports, in the order in which the guest shall find them.
    :param acpi: how the machine is described: ``on`` by ACPI tables, ``off`` by an MP table and the
        command line, ``auto`` by ACPI unless the command line or the kernel is without it.
    """

    kernel: str
    initrd: str | None
    cmdline: str
    memory_size: int
    cpus: int = 1
    topology: Topology = field(default_factory=Topology)
    features: Features = UNCHANGED
    slots: Sequence[VirtioSlot] = ()
    acpi: Literal["on", "off", "auto"] = "auto"
    platform: Platform = field(default_factory=Platform)


@dataclass(frozen=True)
class _Layout:
    """What goes where."""

    request: BootRequest
    kernel: KernelImage
    initrd: Initrd | None
    acpi: bool
    cmdline: bytes

    def write(self, memory: GuestMemory) -> CpuStart:
        self.kernel.write(memory)
        if self.initrd:
            _read_into(memory, self.initrd)
        rsdp = self._describe_machine(memory)
        page = boot_params(self.kernel.header, self.request.memory_size, self.initrd, rsdp)
        memory.write(lowmem.BOOT_PARAMS, page)
        memory.write(lowmem.CMDLINE, self.cmdline + b"\0")
        cr3 = paging.write_page_tables(memory)
        gdt_base, gdt_limit = paging.write_gdt(memory)
        return CpuStart(self.kernel.entry, lowmem.BOOT_PARAMS, lowmem.STACK_TOP, cr3, gdt_base, gdt_limit)

    def _describe_machine(self, memory: GuestMemory) -> int:
        """Write ACPI tables or an MP table, never both; returns the RSDP's address or 0."""
        request = self.request
        write_bios_data(memory)
        write_reset_vector(memory, request.platform)
        apic_ids = [request.topology.apic_id(cpu) for cpu in range(request.cpus)]
        if self.acpi:
            return acpi.write(memory, apic_ids, request.slots, request.platform)
        mptable.write(memory, apic_ids, request.slots, request.platform)
        return 0


class BootPlan:
    """A boot whose checks have passed.

    It holds the decompressed kernel until it is loaded the first time; later loads read the files anew.

    :param acpi: is the machine described by ACPI tables?
    :ivar kernel_kind: of the kernel that was read, and
    :ivar cmdline: the command line made for it; empty where none was.
    """

    def __init__(self, request: BootRequest, acpi: bool, layout: _Layout | None) -> None:
        self.request = request
        self.acpi = acpi
        self.kernel_kind, self.cmdline = (layout.kernel.kind, layout.cmdline) if layout else ("", b"")
        self._layout = layout

    def renew(self) -> None:
        """Read the files again, for the next :meth:`load`.

        :raises ImageError: they cannot be booted any more.
        """
        self._layout = self._layout or _lay_out(self.request)

    def load(self, memory: GuestMemory) -> CpuStart:
        """Write kernel, initrd and tables; call it before vCPU 0 starts and again after each reset.

        :raises ImageError: a file is not any more what it was when it was checked.
        """
        self.renew()
        layout, self._layout = self._layout, None
        assert layout is not None
        return layout.write(memory)


def plan(request: BootRequest) -> BootPlan:
    """Check everything that can be checked without guest memory.

    :raises ImageError: the kernel or the initrd cannot be loaded into this machine.
    :raises OptionError: the command line is too long for this kernel.
    """
    layout = _lay_out(request)
    return BootPlan(request, layout.acpi, layout)


def plan_reset(request: BootRequest, acpi: bool) -> BootPlan:
    """For a machine that runs already, from a snapshot: nothing is read or checked before it is reset.

    :param acpi: how it was described to its guest.
    """
    return BootPlan(replace(request, acpi="on" if acpi else "off"), acpi, None)


def _lay_out(request: BootRequest) -> _Layout:
    kernel = read_kernel(request.kernel)
    (_, ram_end), *_ = ram_ranges(request.memory_size)
    kernel.check_fits(ram_end)
    initrd = _place_initrd(request.initrd, kernel, ram_end) if request.initrd is not None else None
    use_acpi = _chooses_acpi(request, kernel)
    return _Layout(request, kernel, initrd, use_acpi, _command_line(request, kernel.header, use_acpi))


def _place_initrd(path: str, kernel: KernelImage, ram_end: int) -> Initrd:
    """As high as RAM below 4 GiB and the kernel's header allow, so that the kernel can grow behind itself."""
    size = file_size(path)
    limit = min(ram_end, kernel.header.initrd_addr_max + 1)
    gpa = (limit - size) // _PAGE * _PAGE
    if gpa < kernel.end:
        room = max(limit - kernel.end, 0)
        raise ImageError(
            f"{path}: an initrd of {size} bytes does not fit into RAM; {room} are free behind the kernel"
        )
    return Initrd(path, size, gpa)


def _chooses_acpi(request: BootRequest, kernel: KernelImage) -> bool:
    if request.acpi != "auto":
        return request.acpi == "on"
    return "acpi=off" not in request.cmdline.split() and kernel.knows_acpi


def _command_line(request: BootRequest, header: SetupHeader, use_acpi: bool) -> bytes:
    devices = "" if use_acpi else mptable.device_arguments(request.slots)
    line = os.fsencode(f"{request.cmdline} {devices}".strip())
    limit = min(header.cmdline_size, lowmem.CMDLINE_END - lowmem.CMDLINE - 1)
    if len(line) > limit:
        added = f", {len(devices)} of them for virtio-mmio devices" if devices else ""
        raise OptionError("-append", f"a command line of {len(line)} bytes{added}; this kernel takes {limit}")
    return line


def _read_into(memory: GuestMemory, initrd: Initrd) -> None:
    try:
        with open(initrd.path, "rb", buffering=0) as file, memory.view(initrd.gpa, initrd.size) as target:
            length = _fill(file.fileno(), target)
    except OSError as error:
        raise ImageError(f"{initrd.path}: {error.strerror}") from error
    if length < initrd.size:
        raise ImageError(f"{initrd.path}: shrank from {initrd.size} to {length} bytes while it was read")
    memory.written(initrd.gpa, initrd.size)


def _fill(fd: int, target: memoryview) -> int:
    """Read until ``target`` is full or the file ends (a read gives 2 GiB at most); returns the bytes read."""
    done = 0
    while done < len(target) and (count := os.readv(fd, [target[done:]])):
        done += count
    return done

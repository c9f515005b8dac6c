"""Registers of a vCPU by name, and the ones with which it enters a kernel.

Source: Intel SDM volume 3, 2.5 (control registers) and 3.4.5 (segment descriptors).
"""

from __future__ import annotations

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR, CpuStart
from stratovirt.memory import BadAddress, GuestMemory

CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 31
CR4_PAE = 1 << 5
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
RFLAGS_ALWAYS = 1 << 1
CODE_EXECUTE_READ, DATA_READ_WRITE = 11, 3  # with the accessed bit, which entering a guest demands

INSTRUCTION_MAX = 15  # bytes; Intel SDM volume 2, 2.3.11
PAGE_SIZE = 4096

GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rip", "rflags"),
)
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")


def read(fd: int) -> dict[str, int]:
    """General and control registers, segment selectors, and ``cs_base``."""
    regs, sregs = _get("kvm_regs", "KVM_GET_REGS", fd), _get("kvm_sregs", "KVM_GET_SREGS", fd)
    values = {name: int(getattr(regs, name)) for name in GENERAL}
    values |= {name: int(getattr(sregs, name)) for name in CONTROL}
    values |= {name: int(getattr(sregs, name).selector) for name in SEGMENTS}
    return values | {"cs_base": int(sregs.cs.base)}


def enter_kernel(fd: int, entry: CpuStart) -> None:
    """Set what :class:`CpuStart` promises a kernel."""
    sregs = _get("kvm_sregs", "KVM_GET_SREGS", fd)
    _set_segment(sregs.cs, BOOT_CODE_SELECTOR, CODE_EXECUTE_READ, long_mode=True)
    for name in ("ds", "es", "fs", "gs", "ss"):
        _set_segment(getattr(sregs, name), BOOT_DATA_SELECTOR, DATA_READ_WRITE, long_mode=False)
    sregs.gdt.base, sregs.gdt.limit = entry.gdt_base, entry.gdt_limit
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG
    sregs.cr3 = entry.cr3
    sregs.cr4 = CR4_PAE
    sregs.efer = EFER_LME | EFER_LMA
    ioctl(fd, "KVM_SET_SREGS", sregs)
    values = {"rip": entry.rip, "rsi": entry.rsi, "rsp": entry.rsp, "rflags": RFLAGS_ALWAYS}
    ioctl(fd, "KVM_SET_REGS", ffi.new("struct kvm_regs *", values))


def instruction_bytes(fd: int, memory: GuestMemory) -> bytes:
    """Up to 15 bytes at the instruction pointer; fewer, or none, where they are not in RAM."""
    values = read(fd)
    address = values["cs_base"] + values["rip"] & (1 << 64) - 1
    translation = ffi.new("struct kvm_translation *", {"linear_address": address})
    ioctl(fd, "KVM_TRANSLATE", translation)
    if not translation.valid:
        return b""
    gpa = translation.physical_address
    try:
        return memory.read(gpa, min(INSTRUCTION_MAX, PAGE_SIZE - gpa % PAGE_SIZE))
    except BadAddress:
        return b""


def _get(kind: str, request: str, fd: int) -> ffi.CData:
    structure = ffi.new(f"struct {kind} *")
    ioctl(fd, request, structure)
    return structure


def _set_segment(segment: ffi.CData, selector: int, kind: int, *, long_mode: bool) -> None:
    segment.base, segment.limit, segment.selector = 0, 0xFFFF_FFFF, selector
    segment.type, segment.present, segment.dpl, segment.s, segment.g = kind, 1, 0, 1, 1
    segment.l, segment.db = int(long_mode), int(not long_mode)
    segment.avl = segment.unusable = 0

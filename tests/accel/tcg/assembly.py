"""Instructions that only these tests need (Intel SDM, volume 2), and a guest with a user mode."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping

from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, CpuStart
from stratovirt.memory import GuestMemory
from tests.accel.guests import CODE, GDT, PD_LOW, PDPT, PML4, boot

VALUE = 0x10
"""Port to which guests write what they have to say, in 32 bits."""

USER_CODE_SELECTOR, USER_DATA_SELECTOR, TSS_SELECTOR = 0x33, 0x2B, 0x38
"""SYSRET finds user data 8 and user code 16 above STAR[63:48], which is 0x20 here."""

TSS = 0x1100
KERNEL_STACK_TOP = 0x28000
USER_CODE = CODE + 0x800

PUSH_RAX, POP_RAX, RET = b"\x50", b"\x58", b"\xc3"
RDTSC, RDMSR, WRMSR, CPUID, SYSCALL, SYSENTER, SYSRETQ = (
    b"\x0f\x31",
    b"\x0f\x32",
    b"\x0f\x30",
    b"\x0f\xa2",
    b"\x0f\x05",
    b"\x0f\x34",
    b"\x48\x0f\x07",
)
MOV_RAX_CR2 = b"\x0f\x20\xd0"
MOV_EAX_RCX, MOV_EAX_R11, MOV_EAX_EDX, MOV_EAX_EBX, MOV_EAX_ECX, MOV_EAX_ESP = (
    b"\x89\xc8",
    b"\x44\x89\xd8",
    b"\x89\xd0",
    b"\x89\xd8",
    b"\x89\xc8",
    b"\x89\xe0",
)
MOV_EAX_CS, MOV_EAX_SS = b"\x8c\xc8", b"\x8c\xd0"


def say_eax() -> bytes:
    """``out VALUE, eax``"""
    return bytes([0xE7, VALUE])


def mov_ecx(value: int) -> bytes:
    """``mov ecx, value``"""
    return b"\xb9" + struct.pack("<I", value)


def mov_edx(value: int) -> bytes:
    """``mov edx, value``"""
    return b"\xba" + struct.pack("<I", value)


def load_stack(offset: int) -> bytes:
    """``mov eax, [rsp + offset]``"""
    return b"\x8b\x44\x24" + bytes([offset])


def load64(address: int) -> bytes:
    """``mov eax, [address]`` with a 64-bit address, by way of rbx"""
    return b"\x48\xbb" + struct.pack("<Q", address) + b"\x8b\x03"


def store64(address: int, value: int) -> bytes:
    """``mov dword [address], value`` with a 64-bit address, by way of rbx"""
    return b"\x48\xbb" + struct.pack("<Q", address) + b"\xc7\x03" + struct.pack("<I", value)


def call(address: int) -> bytes:
    """``call address`` with a 64-bit address, by way of rax"""
    return b"\x48\xb8" + struct.pack("<Q", address) + b"\xff\xd0"


def read_msr(index: int) -> bytes:
    """EDX:EAX = MSR ``index``"""
    return mov_ecx(index) + RDMSR


def write_msr(index: int, value: int) -> bytes:
    """MSR ``index`` = ``value``"""
    eax = b"\xb8" + struct.pack("<I", value & 0xFFFF_FFFF)
    return mov_ecx(index) + eax + mov_edx(value >> 32) + WRMSR


def returns(value: int) -> bytes:
    """A function: ``mov eax, value; ret``; the value is its bytes 1 to 4."""
    return b"\xb8" + struct.pack("<I", value) + RET


def enter_user(rip: int = USER_CODE, rflags: int = 0x3002, rsp: int = 0x1F000) -> bytes:
    """IRETQ to CPL 3, by default with IOPL 3 so that user code can say something."""
    frame = (USER_DATA_SELECTOR, rsp, rflags, USER_CODE_SELECTOR, rip)
    pushes = b"".join(b"\xb8" + struct.pack("<I", value) + PUSH_RAX for value in frame)
    return load_tr() + pushes + b"\x48\xcf"


def load_tr() -> bytes:
    """``mov ax, TSS_SELECTOR; ltr ax``"""
    return b"\x66\xb8" + struct.pack("<H", TSS_SELECTOR) + b"\x0f\x00\xd8"


def boot_with_user(
    memory: GuestMemory, code: bytes, user: bytes, handlers: Mapping[int, bytes] | None = None
) -> CpuStart:
    """:func:`boot`, and code for CPL 3 at USER_CODE: all pages are the user's, a TSS gives the stack."""
    entry = boot(memory, code, handlers)
    memory.write(USER_CODE, user)
    for table, entries in ((PML4, 1), (PDPT, 1), (PD_LOW, 512)):
        values = struct.unpack(f"<{entries}Q", memory.read(table, 8 * entries))
        memory.write(table, struct.pack(f"<{entries}Q", *(value | 4 for value in values)))
    user_descriptors = (0, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF)
    tss = (0x0000_8900_0000_0067 | TSS << 16, 0)
    memory.write(GDT + 8 * 4, struct.pack("<5Q", *user_descriptors, *tss))
    memory.write(TSS, struct.pack("<IQ", 0, KERNEL_STACK_TOP) + bytes(0x68 - 12))
    assert BOOT_CODE_SELECTOR == 0x10
    return dataclasses.replace(entry, gdt_limit=8 * 9 - 1)


STAR = 0x20 << 48 | BOOT_CODE_SELECTOR << 32
"""SYSCALL enters at the boot selectors; SYSRET leaves to the user's."""

"""Builders of hand-assembled guests, and a Bus that records what they do.

Independent of the accelerator: :func:`boot` takes GuestMemory and gives the CpuStart from which any of
them runs the code. Instructions are kept to those that even an emulating KVM (kvm_pvm) knows: integer
moves, in/out, hlt, lidt, iretq; no SSE, no popcnt.

Where things lie (guest physical = guest virtual)::

    0x01000  GDT                        0x08000  AP entry (real mode, SIPI vector 8)
    0x02000  PML4, PDPT, two PDs        0x10000  code
    0x06000  IDT; 0x07000 its pointer   0x12000  interrupt handlers, 0x100 apart
    0x20000  stack top                  0x30000  data: scratch for the guest
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stratovirt.accel.protocol import BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR, CpuStart
from stratovirt.memory import GuestMemory

GDT = 0x1000
PML4, PDPT, PD_LOW, PD_DEVICES = 0x2000, 0x3000, 0x4000, 0x5000
IDT, IDT_POINTER = 0x6000, 0x7000
AP_ENTRY = 0x8000
CODE = 0x10000
HANDLERS = 0x12000
STACK_TOP = 0x20000
DATA = 0x30000

IOAPIC = 0xFEC0_0000
LAPIC = 0xFEE0_0000
MMIO = 0xF010_0000  # in the device hole: nothing of the accelerator answers there
SPURIOUS = LAPIC + 0xF0
EOI = LAPIC + 0xB0
ICR_LOW, ICR_HIGH = LAPIC + 0x300, LAPIC + 0x310

DONE = 0xF4
"""A guest writes to this port when it has nothing left to do: see :class:`RecordingBus`."""

# -- instructions (Intel SDM volume 2) ---------------------------------------------------------------

HLT, CLI, STI, IRETQ = b"\xf4", b"\xfa", b"\xfb", b"\x48\xcf"
SPIN = b"\xeb\xfe"  # jmp $
HALT_FOREVER = STI + HLT + b"\xeb\xfd"  # sti; l: hlt; jmp l
UD2 = b"\x0f\x0b"


def mov_eax(value: int) -> bytes:
    """``mov eax, value``"""
    return b"\xb8" + struct.pack("<I", value)


def out_al(port: int) -> bytes:
    """``out port, al``"""
    return bytes([0xE6, port])


def in_al(port: int) -> bytes:
    """``in al, port``"""
    return bytes([0xE4, port])


def out_byte(port: int, value: int) -> bytes:
    """``mov al, value; out port, al``"""
    return bytes([0xB0, value]) + out_al(port)


def store32(address: int, value: int) -> bytes:
    """``mov ebx, address; mov dword [rbx], value``"""
    return b"\xbb" + struct.pack("<I", address) + b"\xc7\x03" + struct.pack("<I", value)


def load32(address: int) -> bytes:
    """``mov ebx, address; mov eax, [rbx]``"""
    return b"\xbb" + struct.pack("<I", address) + b"\x8b\x03"


def increment32(address: int) -> bytes:
    """``mov ebx, address; lock inc dword [rbx]``"""
    return b"\xbb" + struct.pack("<I", address) + b"\xf0\xff\x03"


def forever(body: bytes) -> bytes:
    """``l: body; jmp l``"""
    return body + b"\xe9" + struct.pack("<i", -(len(body) + 5))


def load_idt() -> bytes:
    """``lidt [IDT_POINTER]``"""
    return b"\x0f\x01\x1c\x25" + struct.pack("<I", IDT_POINTER)


def enable_lapic() -> bytes:
    """Software-enable the local APIC (SDM volume 3, 11.4.7.2)."""
    return store32(SPURIOUS, 0x1FF)


def mask_pics() -> bytes:
    """Mask both 8259s, as every kernel that uses the IOAPIC does: inputs 0–15 reach them too."""
    return out_byte(0x21, 0xFF) + out_byte(0xA1, 0xFF)


def route_ioapic(pin: int, vector: int, *, level: bool = False, apic_id: int = 0) -> bytes:
    """Send IOAPIC ``pin`` as ``vector`` to one CPU, unmasked (82093AA data sheet, 3.2.4)."""
    low, high = 0x10 + 2 * pin, 0x11 + 2 * pin
    writes = ((high, apic_id << 24), (low, vector | level << 15))
    return b"".join(store32(IOAPIC, index) + store32(IOAPIC + 0x10, value) for index, value in writes)


def start_ap(apic_id: int) -> bytes:
    """INIT, then SIPI to :data:`AP_ENTRY` (SDM volume 3, 9.4.4; no delay is needed by a virtual CPU)."""
    destination = store32(ICR_HIGH, apic_id << 24)
    return destination + store32(ICR_LOW, 0x4500) + destination + store32(ICR_LOW, 0x4600 | AP_ENTRY >> 12)


def done() -> bytes:
    """Tell the bus that the guest is through, then wait for interrupts for ever."""
    return out_al(DONE) + HALT_FOREVER


# -- tables ------------------------------------------------------------------------------------------


def boot(memory: GuestMemory, code: bytes, handlers: Mapping[int, bytes] | None = None) -> CpuStart:
    """Lay out a 64-bit guest: page tables, GDT, ``code`` at CODE and interrupt ``handlers`` by vector.

    The low 1 GiB and the device hole (3–4 GiB) are mapped one to one. With handlers, ``code`` has to
    start with :func:`load_idt`.
    """
    _write_page_tables(memory)
    descriptors = (0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
    assert (BOOT_CODE_SELECTOR, BOOT_DATA_SELECTOR) == (2 * 8, 3 * 8)
    memory.write(GDT, struct.pack("<4Q", *descriptors))
    memory.write(CODE, code)
    _write_handlers(memory, handlers or {})
    return CpuStart(
        rip=CODE, rsi=DATA, rsp=STACK_TOP, cr3=PML4, gdt_base=GDT, gdt_limit=8 * len(descriptors) - 1
    )


def _write_page_tables(memory: GuestMemory) -> None:
    present_writable, large = 0x3, 0x80
    memory.write(PML4, struct.pack("<Q", PDPT | present_writable))
    memory.write(PDPT, struct.pack("<4Q", PD_LOW | present_writable, 0, 0, PD_DEVICES | present_writable))
    for table, base in ((PD_LOW, 0), (PD_DEVICES, 3 << 30)):
        entries = (base + (i << 21) | large | present_writable for i in range(512))
        memory.write(table, struct.pack("<512Q", *entries))


def _write_handlers(memory: GuestMemory, handlers: Mapping[int, bytes]) -> None:
    memory.write(IDT_POINTER, struct.pack("<HQ", 0xFFF, IDT))
    for number, (vector, code) in enumerate(handlers.items()):
        address = HANDLERS + 0x100 * number
        memory.write(address, code)
        gate = struct.pack("<HHBBHII", address & 0xFFFF, BOOT_CODE_SELECTOR, 0, 0x8E, address >> 16, 0, 0)
        memory.write(IDT + 16 * vector, gate)


# -- the machine's side ------------------------------------------------------------------------------


class Access(NamedTuple):
    """One call that a guest caused: ``kind`` is in, out, read or write."""

    kind: str
    address: int
    size: int
    value: int


class RecordingBus:
    """A Bus that remembers every access, answers reads from ``answers``, and says when DONE is written.

    :param done: called, on the vCPU thread, when the guest writes to DONE; a thread's ``kick`` ends run().
    :ivar answers: port or address to what it reads; all ones for the others.
    :ivar reactions: port or address to what is called, on the vCPU thread, with each value written there.
    """

    def __init__(self, done: Callable[[], None] | None = None) -> None:
        self.done = done
        self.answers: dict[int, int] = {}
        self.reactions: dict[int, Callable[[int], None]] = {}
        self.accesses: list[Access] = []
        self._changed = threading.Condition()

    def pio_read(self, port: int, size: int) -> int:
        return self._record("in", port, size, self._answer(port, size))

    def pio_write(self, port: int, size: int, value: int) -> None:
        if port == DONE and self.done is not None:
            self.done()
        else:
            self._written("out", port, size, value)

    def mmio_read(self, address: int, size: int) -> int:
        return self._record("read", address, size, self._answer(address, size))

    def mmio_write(self, address: int, size: int, value: int) -> None:
        self._written("write", address, size, value)

    def outs(self, port: int) -> list[int]:
        """The values written to ``port`` so far."""
        return [access.value for access in self.accesses if access[:2] == ("out", port)]

    def wait_for(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait until ``condition`` holds; looked at again after each access.

        :raises TimeoutError: it does not within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"the guest did not do it; it did {self.accesses[-5:]}")

    def _answer(self, address: int, size: int) -> int:
        return self.answers.get(address, -1) & (1 << 8 * size) - 1

    def _written(self, kind: str, address: int, size: int, value: int) -> None:
        if address in self.reactions:
            self.reactions[address](value)
        self._record(kind, address, size, value)

    def _record(self, kind: str, address: int, size: int, value: int) -> int:
        with self._changed:
            self.accesses.append(Access(kind, address, size, value))
            self._changed.notify_all()
        return value

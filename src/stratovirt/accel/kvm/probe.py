"""Does this KVM run guest kernel code natively? A known loop of it, timed against the clock.

KVM without hardware virtualization (kvm_pvm) emulates guest kernel mode at 1.5 million instructions a
second, which boots no stock kernel; hardware runs the same loop at over 1,000, and even KVM inside a
guest of QEMU's TCG at over 100. The threshold lies far from all of them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import replace

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.protocol import CpuStart
from stratovirt.memory import GuestMemory

NATIVE_INSTRUCTIONS_PER_SECOND = 20e6

LOOPS = 1000
INSTRUCTIONS_PER_LOOP = 2
ATTEMPTS = 3  # a busy host slows one down; it never speeds one up

# l: dec esi; jnz l; out 0xf4, al; hlt
LOOP = bytes.fromhex("ffce 75fc e6f4 f4")

PML4, PDPT, PAGE_DIRECTORY, CODE, MEMORY_SIZE = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000
PRESENT_WRITABLE, LARGE_PAGE = 0x3, 0x80


def runs_kernels_natively() -> bool:
    """Run the loop, and say whether it went at a CPU's speed. Costs a few milliseconds.

    :raises AcceleratorUnavailable: there is no usable KVM.
    :raises AcceleratorError: it cannot even run the loop.
    """
    memory = GuestMemory.allocate(MEMORY_SIZE)
    try:
        return _speed_suffices(memory)
    finally:
        memory.close()


def _speed_suffices(memory: GuestMemory) -> bool:
    entry = _lay_out(memory)
    bus = _StopAtWrite()
    accelerator = KvmAccelerator(memory, 1, bus)
    try:
        thread = accelerator.threads[0]
        bus.stop = thread.kick

        def seconds(loops: int) -> float:
            accelerator.start(replace(entry, rsi=loops))
            begin = time.perf_counter()
            thread.run()
            return time.perf_counter() - begin

        return _beats_threshold(seconds)
    finally:
        accelerator.close()


def _beats_threshold(seconds: Callable[[int], float]) -> bool:
    """Best of a few attempts, less what entering and leaving the guest takes."""
    allowed = LOOPS * INSTRUCTIONS_PER_LOOP / NATIVE_INSTRUCTIONS_PER_SECOND
    for _ in range(ATTEMPTS):
        overhead = seconds(1)
        if seconds(LOOPS) - overhead < allowed:
            return True
    return False


class _StopAtWrite:
    """A bus on which nothing is; the loop's last instruction ends the run."""

    stop: Callable[[], None]

    def pio_read(self, _port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def pio_write(self, _port: int, _size: int, _value: int) -> None:
        self.stop()

    def mmio_read(self, _address: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def mmio_write(self, _address: int, _size: int, _value: int) -> None:
        self.stop()


def _lay_out(memory: GuestMemory) -> CpuStart:
    """The loop, under page tables that map the first 2 MiB one to one. It needs no GDT."""
    memory.write(PML4, struct.pack("<Q", PDPT | PRESENT_WRITABLE))
    memory.write(PDPT, struct.pack("<Q", PAGE_DIRECTORY | PRESENT_WRITABLE))
    memory.write(PAGE_DIRECTORY, struct.pack("<Q", LARGE_PAGE | PRESENT_WRITABLE))
    memory.write(CODE, LOOP)
    return CpuStart(rip=CODE, rsi=1, rsp=MEMORY_SIZE, cr3=PML4, gdt_base=0, gdt_limit=0)

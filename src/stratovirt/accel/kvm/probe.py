"""Does this KVM run guest kernel code natively? A known loop of it, timed against the clock.

The law: noise cannot make an emulator look native. A busy host slows an attempt down and never speeds one
up, so one attempt in time decides, and what it costs to enter and leave the guest counts too.

KVM without hardware virtualization (kvm_pvm) emulates guest kernel mode at 1.5 million instructions a
second, which boots no stock kernel; hardware runs the same loop at over 1,000 million, and KVM nested in
QEMU's TCG at over 100 million.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.protocol import CpuStart
from stratovirt.memory import GuestMemory

LOOPS = 20_000
INSTRUCTIONS_PER_LOOP = 2
NATIVE_INSTRUCTIONS_PER_SECOND = 5e6
SECONDS_ALLOWED = LOOPS * INSTRUCTIONS_PER_LOOP / NATIVE_INSTRUCTIONS_PER_SECOND  # 8 ms; kvm_pvm takes 26
ATTEMPTS = 3

# l: dec esi; jnz l; out 0xf4, al; hlt
LOOP = bytes.fromhex("ffce 75fc e6f4 f4")

PML4, PDPT, PAGE_DIRECTORY, CODE, MEMORY_SIZE = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000
PRESENT_WRITABLE, LARGE_PAGE = 0x3, 0x80


def runs_kernels_natively() -> bool:
    """Run the loop, and say whether it went at a CPU's speed.

    On hardware that takes less than a millisecond beside making and unmaking a VM, which takes five.

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

        def attempt() -> float:
            accelerator.start(entry)
            begin = time.perf_counter()
            thread.run()
            return time.perf_counter() - begin

        return any(attempt() < SECONDS_ALLOWED for _ in range(ATTEMPTS))
    finally:
        accelerator.close()


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
    return CpuStart(rip=CODE, rsi=LOOPS, rsp=MEMORY_SIZE, cr3=PML4, gdt_base=0, gdt_limit=0)

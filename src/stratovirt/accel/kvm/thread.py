"""The body of a vCPU's thread: run the guest, serve its exits, come back when kicked.

The law: a kick is never lost. ``immediate_exit`` in the page shared with the kernel is its memory: set
by :meth:`KvmVcpuThread.kick` whether or not the vCPU runs, looked at by KVM_RUN before it enters the
guest, and cleared in one place only, on the way to returning KICKED. The signal merely brings a running
vCPU back to where the flag is looked at (a signal without the flag lost 3 of 200; with it 0 of 600).

KICKED is returned only from a KVM_RUN that the kernel ended: by then it has finished the access that the
last exit was about, so the state of the vCPU is whole (KVM API, 5, "operations are complete … only after
userspace has re-entered the kernel").
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from stratovirt.accel.kvm import registers
from stratovirt.accel.kvm._kvm import ffi, lib
from stratovirt.accel.kvm.vcpu import KvmVcpu
from stratovirt.accel.protocol import Bus, RunEnd
from stratovirt.errors import AcceleratorError
from stratovirt.memory import GuestMemory

KICK_SIGNAL = signal.SIGRTMIN  # as StratoVirt and Firecracker; nothing in Python uses real-time signals

_UNSIGNED = {size: ffi.typeof(f"uint{8 * size}_t *") for size in (1, 2, 4, 8)}

_INTERNAL_ERRORS = {
    1: "emulation failure",
    2: "simultaneous exceptions",
    3: "exit while delivering an event",
    4: "unexpected exit reason",
}


class KvmVcpuThread:
    """Runs one vCPU against the machine's bus."""

    def __init__(self, vcpu: KvmVcpu, bus: Bus, memory: GuestMemory) -> None:
        self.vcpus = (vcpu,)
        self.name = f"vcpu-{vcpu.index}"
        self._vcpu = vcpu
        self._bus = bus
        self._memory = memory
        self._page = vcpu.run_page
        self._ports = ffi.new("struct native_ports *")
        self._native_id = 0  # of the thread in run(); 0 while there is none
        self._serve: dict[int, Callable[[], None]] = {
            lib.KVM_EXIT_IO: self._serve_io,
            lib.KVM_EXIT_MMIO: self._serve_mmio,
            lib.KVM_EXIT_INTR: _serve_nothing,
        }
        if lib.install_kick_handler(KICK_SIGNAL) < 0:
            raise OSError(ffi.errno, f"sigaction: {os.strerror(ffi.errno)}")

    def add_native_ports(self, first: int, count: int, device: int) -> None:
        """See :meth:`stratovirt.accel.protocol.Accelerator.add_native_ports`."""
        if not lib.native_add(self._ports, first, count, ffi.cast("void *", device)):
            raise MemoryError

    def kick(self) -> None:
        """See :meth:`stratovirt.accel.protocol.VcpuThread.kick`."""
        lib.kick(self._page, self._native_id, KICK_SIGNAL)

    def run(self) -> RunEnd:
        """See :meth:`stratovirt.accel.protocol.VcpuThread.run`."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {KICK_SIGNAL})
        self._native_id = threading.get_native_id()
        try:
            return self._run()
        finally:
            self._native_id = 0

    def _run(self) -> RunEnd:
        page, fd, ports = self._page, self._vcpu.fd, self._ports
        while True:
            if lib.run_vcpu(fd, page, ports) < 0:
                self._check_interruption(ffi.errno)
                if page.immediate_exit:
                    page.immediate_exit = 0
                    return RunEnd.KICKED
            elif page.exit_reason == lib.KVM_EXIT_SHUTDOWN:
                return RunEnd.TRIPLE_FAULT
            else:
                self._serve.get(page.exit_reason, self._fail_for_reason)()

    def _check_interruption(self, error: int) -> None:
        """EINTR: a signal, ours or another. EAGAIN: a vCPU that waited for SIPI has changed its state."""
        if error not in (errno.EINTR, errno.EAGAIN):
            self._fail(f"KVM_RUN: {os.strerror(error)}")

    # -- accesses ------------------------------------------------------------------------------------

    def _serve_io(self) -> None:
        """IN and OUT, of ``count`` items when a string instruction repeats."""
        io = self._page.io
        start = ffi.cast("char *", self._page) + io.data_offset
        items = ffi.cast(_UNSIGNED[io.size], start)
        if io.direction == lib.KVM_EXIT_IO_OUT:
            for i in range(io.count):
                self._bus.pio_write(io.port, io.size, items[i])
        else:
            for i in range(io.count):
                items[i] = self._bus.pio_read(io.port, io.size)

    def _serve_mmio(self) -> None:
        mmio = self._page.mmio
        # What straddles a page arrives in pieces of any length: those go byte by byte.
        size = mmio.len if mmio.len in _UNSIGNED else 1
        for offset in range(0, mmio.len, size):
            item = ffi.cast(_UNSIGNED[size], mmio.data + offset)
            if mmio.is_write:
                self._bus.mmio_write(mmio.phys_addr + offset, size, item[0])
            else:
                item[0] = self._bus.mmio_read(mmio.phys_addr + offset, size)

    # -- failures ------------------------------------------------------------------------------------

    def _fail_for_reason(self) -> NoReturn:
        page = self._page
        match page.exit_reason:
            case lib.KVM_EXIT_INTERNAL_ERROR:
                suberror = page.internal.suberror
                meaning = _INTERNAL_ERRORS.get(suberror, "unknown")
                self._fail(f"KVM internal error, suberror {suberror} ({meaning})")
            case lib.KVM_EXIT_FAIL_ENTRY:
                code = page.fail_entry.hardware_entry_failure_reason
                self._fail(f"KVM cannot enter the guest, hardware reason {code:#x}")
            case reason:  # such as KVM_EXIT_SYSTEM_EVENT: of features that this machine does not enable
                self._fail(f"KVM exit that nobody asked for, reason {reason}")

    def _fail(self, reason: str) -> NoReturn:
        values = self._vcpu.registers()
        code = registers.instruction_bytes(self._vcpu.fd, self._memory).hex(" ") or "not readable"
        where = f"{self.name} at rip {values['rip']:#x}, instruction bytes {code}"
        raise AcceleratorError(f"{reason}: {where}", values)


def _serve_nothing() -> None:
    """KVM_EXIT_INTR with a good return: a signal came, and KVM_RUN has nothing to say."""

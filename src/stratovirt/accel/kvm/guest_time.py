"""Guest time: stopping it while the machine is paused.

The law: while frozen nothing of a clock is lost and nothing is gained; :meth:`GuestTime.thaw` puts each
one back to where it stood.

- The paravirtual clock and the PIT are read and set back, as QEMU does at stop and cont; a guest that
  uses the former is told (KVM_KVMCLOCK_CTRL), so that its soft-lockup watchdog forgives the gap.
- The TSC is moved back by one common offset, and an armed TSC deadline is armed anew against it. QEMU
  lets the TSC run on, and the guest then sees the pause as a jump. Kernels before Linux 5.16 have no
  offset attribute; there we too let it run on.
- A local APIC timer that counts (one-shot or periodic, not TSC-deadline) goes on: setting its count
  would take KVM_SET_LAPIC, which drops an interrupt that a device raises at the same moment.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from stratovirt.accel.kvm import msrs
from stratovirt.accel.kvm._kvm import ffi, lib
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.accel.kvm.vcpu import KvmVcpu
from stratovirt.accel.kvm.vm import TIMER, KvmVm

WORD = (1 << 64) - 1


@dataclass(frozen=True)
class _Moment:
    clock: int  # nanoseconds
    pit: bytes
    tsc: int  # of vCPU 0
    tsc_deadlines: tuple[int, ...]  # of each vCPU; 0: not armed, or the timer is in another mode


class GuestTime:
    """Every clock of a VM."""

    def __init__(self, vm: KvmVm, vcpus: Sequence[KvmVcpu]) -> None:
        self._vm = vm
        self._vcpus = vcpus
        self._frozen: _Moment | None = None

    def freeze(self) -> None:
        """Remember where every clock stands."""
        if self._frozen is not None:
            raise RuntimeError("guest time is frozen already")
        self._frozen = self._now()

    def thaw(self) -> None:
        """Let every clock go on from there."""
        if self._frozen is None:
            raise RuntimeError("guest time is not frozen")
        self._rewind(self._frozen)
        self._frozen = None

    def rewind(self) -> None:
        """While frozen, before the state is read: make every clock show the time at which it stopped."""
        if self._frozen is not None:
            self._rewind(self._frozen)

    def adopt(self) -> None:
        """While frozen, after other state was put in: that is what time stands at now."""
        if self._frozen is not None:
            self._frozen = self._now()

    def _now(self) -> _Moment:
        return _Moment(
            clock=self._vm.clock(),
            pit=TIMER.save(self._vm.fd),
            tsc=msrs.read(self._vcpus[0].fd, msrs.TSC),
            tsc_deadlines=tuple(msrs.read(vcpu.fd, msrs.TSC_DEADLINE) for vcpu in self._vcpus),
        )

    def _rewind(self, moment: _Moment) -> None:
        # One difference, taken once, for all: the vCPUs' TSCs stay as far apart as they were.
        elapsed = msrs.read(self._vcpus[0].fd, msrs.TSC) - moment.tsc
        for vcpu, deadline in zip(self._vcpus, moment.tsc_deadlines, strict=True):
            offset = tsc_offset(vcpu.fd)
            if offset is not None:
                _set_tsc_offset(vcpu.fd, offset - elapsed)
            if deadline:
                msrs.write(vcpu.fd, {msrs.TSC_DEADLINE: deadline})
            _tell_paused(vcpu.fd)
        TIMER.load(self._vm.fd, moment.pit)
        self._vm.set_clock(moment.clock)


def tsc_offset(fd: int) -> int | None:
    """How far a vCPU's TSC is ahead of the host's, modulo 2^64; None where the kernel does not say."""
    value = ffi.new("uint64_t *")
    try:
        ioctl(fd, "KVM_GET_DEVICE_ATTR", _tsc_offset_attribute(value))
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOTTY, errno.EINVAL):
            return None
        raise
    return int(value[0])


def _set_tsc_offset(fd: int, offset: int) -> None:
    value = ffi.new("uint64_t *", offset & WORD)
    ioctl(fd, "KVM_SET_DEVICE_ATTR", _tsc_offset_attribute(value))


def _tsc_offset_attribute(value: ffi.CData) -> ffi.CData:
    return ffi.new(
        "struct kvm_device_attr *",
        {
            "group": lib.KVM_VCPU_TSC_CTRL,
            "attr": lib.KVM_VCPU_TSC_OFFSET,
            "addr": int(ffi.cast("uintptr_t", value)),
        },
    )


def _tell_paused(fd: int) -> None:
    try:
        ioctl(fd, "KVM_KVMCLOCK_CTRL")
    except OSError as error:
        if error.errno != errno.EINVAL:  # the guest does not use the paravirtual clock
            raise

"""Guests without an operating system, for machines with every device: ELF kernels of one C file each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.errors import AcceleratorUnavailable, ConfigError
from tests import guests

RAM = ("-m", "128")
DISK_SIZE = 4 << 20
DEVICES = (
    *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
    *("-device", "virtio-rng-device,rng=entropy"),
    *("-device", "virtio-balloon-device,free-page-reporting=on,guest-stats-polling-interval=1"),
)


def options(name: str, accel: str, directory: Path, *, seed: int = 1) -> list[str]:
    """A machine with the guest of ``NAME.c`` and a device of each kind, their files in ``directory``."""
    try:
        kernel = guests.bare_kernel(name, seed)
    except ConfigError as error:
        pytest.skip(str(error))
    disk = directory / "disk.img"
    disk.touch()
    os.truncate(disk, DISK_SIZE)
    drive = (
        "-drive",
        f"id=disk,file={disk},discard=unmap",
        "-device",
        "virtio-blk-device,drive=disk,num-queues=2",
    )
    return ["-machine", f"microvm,accel={accel}", *RAM, "-kernel", str(kernel), *drive, *DEVICES]


def skip_without(accel: str) -> None:
    """Skip a test whose accelerator this host does not have, and say why."""
    if accel == "kvm":
        try:
            KvmSystem().close()
        except AcceleratorUnavailable as reason:
            pytest.skip(str(reason))

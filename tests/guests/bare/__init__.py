"""Guests without an operating system, for machines with every device: ELF kernels of one C file each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stratovirt.accel.kvm.system import KvmSystem
from stratovirt.errors import AcceleratorUnavailable, ConfigError
from stratovirt.testing import started
from stratovirt.testing.options import sockets
from tests import guests
from tests.network import namespace
from tests.system.vm import Vm

RAM = 128
DISK_SIZE = 4 << 20
DEVICES = (
    *("-device", "virtio-blk-device,drive=disk,num-queues=2"),
    *("-netdev", "tap,id=net,ifname=tap0", "-device", "virtio-net-device,netdev=net"),
    *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
    *("-device", "virtio-rng-device,rng=entropy"),
    *("-device", "virtio-balloon-device,free-page-reporting=on,guest-stats-polling-interval=1"),
    *("-device", "virtio-serial-device,max_ports=4"),
    *("-device", "virtconsole,chardev=hvc", "-device", "virtconsole,chardev=ring"),
    *("-chardev", "ringbuf,id=ring,size=4096"),
)


@asynccontextmanager
async def running(name: str, accel: str, directory: Path, *, seed: int = 1) -> AsyncIterator[Vm]:
    """A machine with the guest of ``NAME.c`` and a device of each kind, its files in ``directory``.

    A host that cannot have it skips the test, and says why.
    """
    skip_without(accel)
    disk = directory / "disk.img"
    disk.touch()
    os.truncate(disk, DISK_SIZE)
    options = [
        *("-machine", f"microvm,accel={accel}", "-m", str(RAM), "-kernel", str(_kernel(name, seed))),
        *("-drive", f"id=disk,file={disk},discard=unmap", *DEVICES),
        *("-chardev", f"socket,id=hvc,path={directory}/hvc.sock,server,nowait"),
        *("-device", f"virtio-vsock-device,guest-cid=3,uds-path={directory}/vsock"),
        *sockets(directory, monitors=("qmp",)),
    ]
    with namespace() as net:
        net.add_tap("tap0")
        async with started(*options, directory=directory, command=net.stratovirt) as process:
            yield Vm(process.process, directory)


def skip_without(accel: str) -> None:
    """Skip a test whose accelerator this host does not have."""
    if accel == "kvm":
        try:
            KvmSystem().close()
        except AcceleratorUnavailable as reason:
            pytest.skip(str(reason))


def _kernel(name: str, seed: int) -> Path:
    try:
        return guests.bare_kernel(name, seed)
    except ConfigError as error:
        pytest.skip(str(error))

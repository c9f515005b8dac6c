"""A machine with a Linux guest that has booted and does nothing: what managers talk to all day."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.guests import cloud_kernel, initramfs

from benchmarks.boot import tsc_khz, vmlinux
from benchmarks.harness import OURS, read_until, running, vmm

MEMORY_MIB = 256
BOOT_SECONDS = 60


class Idle(NamedTuple):
    """:ivar sockets: its QMP sockets; where a server takes many clients there is one."""

    pid: int
    sockets: list[Path]


@contextmanager
def idle(side: str, sockets: int = 1, *more: str) -> Iterator[Idle]:
    """The stock Debian cloud kernel at its shell, each side with the kernel form that it boots fastest.

    :raise Failed: it does not boot.
    """
    kernel = cloud_kernel()
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        paths = [Path(directory, f"qmp{number}") for number in range(sockets)]
        options = [word for path in paths for word in ("-qmp", f"unix:{path},server,nowait")]
        options += ["-m", str(MEMORY_MIB), "-smp", "1", "-serial", "stdio", "-initrd", str(initramfs(kernel))]
        options += ["-append", f"console=ttyS0 quiet tsc_early_khz={tsc_khz()} t=shell"]
        options += ["-kernel", str(kernel if side == OURS else vmlinux(kernel)), *more]
        with running(vmm(side, *options)) as process:
            read_until(process, b"GUEST-UP", BOOT_SECONDS)
            yield Idle(process.pid, paths)

"""What guest a test wants, and the command line that boots it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stratovirt.testing.process import COMMAND
from stratovirt.tools.guest import cache_directory, publish
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel, any_kernel

PROMPT = b"guest# "
"""Of the shell that the initramfs of ``stratovirt-guest`` ends in."""
BOOT_SECONDS = 120
"""A software CPU takes three seconds, on a loaded host with two cores thirty."""


@dataclass(frozen=True, kw_only=True)
class VmOptions:
    """The guest of one test.

    :ivar kernel: a kernel image; by default the one that ``stratovirt-guest kernel`` gets.
    :ivar initrd: an initramfs that ends in a shell; by default one with the kernel's virtio modules.
    :ivar smp: virtual CPUs.
    :ivar memory: guest memory, as ``-m`` takes it.
    :ivar accel: ``kvm``, ``tcg``, or both with a colon: the first that the host has.
    :ivar append: more of the kernel's command line.
    :ivar options: more of StratoVirt's command line.
    :ivar prompt: what the guest prints when its shell is ready; None not to wait for it.
    :ivar boot_seconds: how long that may take.
    :ivar command: how StratoVirt is called.
    """

    kernel: Path | None = None
    initrd: Path | None = None
    smp: int = 1
    memory: str = "256M"
    accel: str = "kvm:tcg"
    append: str = ""
    options: tuple[str, ...] = ()
    prompt: bytes | None = PROMPT
    boot_seconds: float = BOOT_SECONDS
    command: tuple[str, ...] = COMMAND

    def arguments(self, directory: Path) -> list[str]:
        """The command line, with sockets for console and QMP in ``directory``.

        :raises ConfigError: the default guest cannot be had.
        """
        kernel = self.kernel or default_kernel().image
        initrd = self.initrd or default_initrd(kernel)
        return [
            *("-machine", f"microvm,accel={self.accel}"),
            *("-smp", str(self.smp), "-m", self.memory),
            *("-kernel", str(kernel), "-initrd", str(initrd)),
            *("-append", f"console=ttyS0 panic=-1 {self.append}".strip()),
            *sockets(directory),
            *self.options,
        ]


def sockets(directory: Path, *, monitors: Sequence[str] = ("qmp",)) -> list[str]:
    """Options for a console socket and ``monitors`` in ``directory``."""
    options = ["-chardev", f"socket,id=console,path={directory}/console.sock,server,nowait"]
    options += ["-serial", "chardev:console"]
    for name in monitors:
        options += ["-qmp", f"unix:{directory}/{name}.sock,server,nowait"]
    return options


@functools.cache
def default_kernel() -> Kernel:
    """$KERNEL, or the kernel that ``stratovirt-guest kernel`` gets; downloaded once and kept.

    :raises ConfigError: it cannot be had.
    """
    named = os.environ.get("KERNEL")
    return Kernel.at(Path(named)) if named else any_kernel(cache_directory(os.environ))


@functools.cache
def default_initrd(kernel: Path) -> Path:
    """An initramfs with busybox, the modules of ``kernel`` and a shell on its console.

    :raises ConfigError: it cannot be built.
    """
    cache = cache_directory(os.environ)
    image = build(Kernel.at(kernel), find_busybox(cache))
    return publish(image, cache / f"initramfs-{kernel.name}.cpio")

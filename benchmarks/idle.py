"""A machine with a Linux guest that has booted and does nothing: what managers talk to all day."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.guests import CLOUD, MEMORY_MIB, UP, boot_options, fastest_form, kernel
from benchmarks.harness import Effort, read_until, running, vmm

BOOT_SECONDS = 60


class Idle(NamedTuple):
    """:ivar sockets: its QMP sockets; where a server takes many clients there is one.
    :ivar process: with pipes for its console, on which a shell reads commands.
    """

    process: subprocess.Popen[bytes]
    sockets: list[Path]


@contextmanager
def idle(
    side: str, sockets: int = 1, *more: str, memory: int = MEMORY_MIB, zygote: Path | None = None
) -> Iterator[Idle]:
    """The stock Debian cloud kernel at its shell, each side with the kernel form that it boots fastest.

    :param memory: of the guest, in MiB.
    :param zygote: the socket of one that our machine is to start from; ``process`` is then its client.
    :raise Failed: it does not boot.
    """
    image = kernel(CLOUD, Effort())
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        paths = [Path(directory, f"qmp{number}") for number in range(sockets)]
        options = [word for path in paths for word in ("-qmp", f"unix:{path},server,nowait")]
        options += [*boot_options(image, fastest_form(side, image), "shell", "quiet", memory=memory), *more]
        with running(vmm(side, *options, zygote=zygote)) as process:
            read_until(process, UP, BOOT_SECONDS)
            yield Idle(process, paths)

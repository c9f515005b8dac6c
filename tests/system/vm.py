"""A stratovirt process under test: that of ``stratovirt.testing``, with a QMP client that trusts nothing.

Every wait has an absolute deadline, and every QMP reply and event is validated against schemas/ by the
client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from stratovirt.testing import GuestConsole, VmProcess
from stratovirt.testing import started as process_started
from stratovirt.testing.options import sockets
from stratovirt.testing.process import COMMAND, END_SECONDS
from tests.system.qmp import Qmp, connected

__all__ = ["END_SECONDS", "Vm", "command", "guest_options", "started"]


class Vm(VmProcess):
    """One running process."""

    def qmp(self, name: str = "qmp") -> AbstractAsyncContextManager[Qmp]:
        """A client on the monitor socket ``name``, after its greeting."""
        return connected(self.directory / f"{name}.sock")

    def console(self, name: str = "console") -> AbstractAsyncContextManager[GuestConsole]:
        """The serial line; what was printed before comes first."""
        return self.serial(name)


def command(*arguments: str) -> list[str]:
    """argv of ``stratovirt`` with ``arguments``."""
    return [*COMMAND, *arguments]


def guest_options(
    kernel: Path,
    initrd: Path,
    directory: Path,
    t: str,
    *,
    append: str = "",
    monitors: Sequence[str] = ("qmp",),
    accel: str = "tcg",
) -> list[str]:
    """Options that boot ``kernel`` into the test guest's test ``t``."""
    return [
        *("-machine", f"microvm,accel={accel}"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 panic=-1 {append} t={t}"),
        *sockets(directory, monitors=monitors),
    ]


@asynccontextmanager
async def started(*arguments: str, directory: Path) -> AsyncIterator[Vm]:
    """A process with ``arguments``; killed at the end of the block if it still lives."""
    async with process_started(*arguments, directory=directory) as process:
        yield Vm(process.process, directory)

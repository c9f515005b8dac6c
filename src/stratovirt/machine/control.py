"""The control interface: all that management (QMP, signals, tests) may ask of a machine.

It outlives the machine: after a crash or a shutdown it still answers, so that a client can ask why.
What changes the machine takes turns by itself; what only asks never waits for a turn.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from stratovirt.machine.balloon import Balloon
from stratovirt.machine.chardevs import CharacterDevices
from stratovirt.machine.events import EventBus
from stratovirt.machine.info import MachineInfo, VcpuInfo
from stratovirt.machine.inventory import Inventory
from stratovirt.machine.migration import Migration


class RunState(enum.Enum):
    """The seven states; the values are QEMU's words (qapi/run-state.json)."""

    PRELAUNCH = "prelaunch"
    RUNNING = "running"
    PAUSED = "paused"
    INMIGRATE = "inmigrate"
    POSTMIGRATE = "postmigrate"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal-error"


class MachineControl(Protocol):
    """A machine as its managers see it. Called from the trio thread."""

    @property
    def state(self) -> RunState: ...

    @property
    def crash_reason(self) -> str | None:
        """Why the state is internal-error, in one line; None in every other state."""

    @property
    def events(self) -> EventBus: ...

    @property
    def info(self) -> MachineInfo: ...

    @property
    def inventory(self) -> Inventory:
        """What is plugged in, and how that is changed."""

    @property
    def chardevs(self) -> CharacterDevices:
        """The host's character devices, and how they come and go."""

    @property
    def balloon(self) -> Balloon:
        """How much of its memory the guest has, and how that is changed."""

    @property
    def migration(self) -> Migration:
        """How snapshots are taken."""

    async def vcpus(self) -> Sequence[VcpuInfo]:
        """The vCPUs as they are now; waits until they have been built. None after a crash."""

    def read_memory(self, gpa: int, length: int) -> bytes:
        """``length`` bytes of guest memory at guest physical address ``gpa``.

        :raises CommandError: no RAM is there, or there is no machine.
        """

    async def stop(self) -> None:
        """Pause: returns when every vCPU has left guest code and guest time stands still.

        :raises CommandError: the machine does not run.
        """

    async def cont(self) -> None:
        """Start or resume guest code.

        :raises CommandError: it runs already, or cannot run any more.
        """

    async def reset(self) -> None:
        """Reset as by the reset button; keeps running or paused as it was.

        :raises CommandError: the state does not allow it.
        """

    async def powerdown(self) -> None:
        """Press the ACPI power button; what follows is the guest's decision.

        :raises CommandError: the machine does not run, or the guest has no ACPI to hear it.
        """

    def quit(self) -> None:
        """Ask the whole process to end in an orderly way; returns at once.

        Event and exit follow when every reply that is already due has been flushed.
        """

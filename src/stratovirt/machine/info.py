"""What a machine is, as far as its managers ask: facts of its configuration, and of its vCPUs now.

The law: plain frozen values, one way: whoever builds the machine fills them in, nobody changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Topology:
    """``-smp``: how many of each are in one of the next larger; their product is the number of places."""

    sockets: int = 1
    dies: int = 1
    clusters: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def places(self) -> int:
        """vCPUs that there is room for."""
        return self.sockets * self.dies * self.clusters * self.cores * self.threads

    def place(self, index: int) -> Place:
        """Where vCPU ``index`` sits; neighbours share a core, then a cluster, a die, a socket."""
        index, thread = divmod(index, self.threads)
        index, core = divmod(index, self.cores * self.clusters)
        socket, die = divmod(index, self.dies)
        return Place(socket, die, core, thread)


@dataclass(frozen=True)
class Place:
    """A vCPU's place in the topology, each number within the next larger thing."""

    socket: int
    die: int
    core: int
    thread: int


@dataclass(frozen=True)
class VcpuInfo:
    """A vCPU at this moment.

    :ivar thread_id: of the host thread that runs it (gettid(2)).
    :ivar halted: it waits for an interrupt.
    """

    index: int
    thread_id: int
    halted: bool


@dataclass(frozen=True)
class ChardevInfo:
    """A character device of the host's side.

    :ivar filename: what it is and where, as QEMU spells it.
    :ivar in_use: a device or a monitor is at its other end.
    """

    label: str
    filename: str
    in_use: bool


@dataclass(frozen=True)
class MachineInfo:
    """What the machine was configured to be.

    :ivar accelerator: what runs its vCPUs.
    :ivar memory: bytes of RAM.
    :ivar vcpus: how many it starts with; 0 for a machine that runs no guest.
    """

    name: str | None = None
    uuid: str | None = None
    accelerator: Literal["kvm", "tcg"] = "tcg"
    memory: int = 0
    vcpus: int = 0
    topology: Topology = Topology()
    chardevs: tuple[ChardevInfo, ...] = ()

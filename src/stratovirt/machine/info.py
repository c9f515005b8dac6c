"""What a machine is, as far as its managers ask: facts of its configuration, and of its vCPUs now.

The law: plain frozen values, one way: whoever builds the machine fills them in, nobody changes them.
NamedTuples, because every start of a VM pays for defining them: 0.1 ms instead of a dataclass's 0.6.
"""

from typing import Literal, NamedTuple


class Place(NamedTuple):
    """A vCPU's place in the topology, each number within the next larger thing."""

    socket: int
    die: int
    core: int
    thread: int


class Topology(NamedTuple):
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


class VcpuInfo(NamedTuple):
    """A vCPU at this moment.

    :ivar number: 0-based.
    :ivar thread_id: of the host thread that runs it (gettid(2)).
    :ivar halted: it waits for an interrupt.
    """

    number: int
    thread_id: int
    halted: bool


class ChardevInfo(NamedTuple):
    """A character device of the host's side.

    :ivar filename: what it is and where, as QEMU spells it.
    :ivar in_use: a device or a monitor is at its other end.
    """

    label: str
    filename: str
    in_use: bool


class MachineInfo(NamedTuple):
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

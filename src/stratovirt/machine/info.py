"""What a machine is, as far as its managers ask: facts of its configuration, and of its vCPUs now.

The law: plain frozen values, one way: whoever builds the machine fills them in, nobody changes them.
NamedTuples, because every start of a VM pays for defining them: 0.1 ms instead of a dataclass's 0.6.
"""

from typing import Literal, NamedTuple

from stratovirt.accel.topology import Place, Topology

__all__ = ["ChardevInfo", "MachineInfo", "Place", "Topology", "VcpuInfo"]


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

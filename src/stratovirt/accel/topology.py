"""Where vCPUs sit: sockets, dies, cores and threads, and the APIC ids that tell a guest so.

The law: an APIC id is the numbers of a place side by side, each in as many bits as its kind needs, so ids
have gaps where a count is no power of two. Boot tables, interrupt controllers and CPUID take them from here.
Source: Intel SDM volume 3A, 9.9.1 (hierarchical mapping of shared resources).

NamedTuples, because every start of a VM pays for defining them: 0.1 ms instead of a dataclass's 0.6.
"""

from typing import NamedTuple

MAX_APIC_ID = 253
"""An xAPIC id has 8 bits, of which 0xFF is the broadcast and one is the IOAPIC's."""


class Place(NamedTuple):
    """A vCPU's place in the topology, each number within the next larger thing."""

    socket: int
    die: int
    core: int
    thread: int


class Topology(NamedTuple):
    """``-smp``: how many of each are in one of the next larger; their product is the number of places.

    CPUID has no word for clusters that Linux 6.1 knows: their cores count as the die's.
    """

    sockets: int = 1
    dies: int = 1
    clusters: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def places(self) -> int:
        """vCPUs that there is room for."""
        return self.sockets * self.socket_threads

    @property
    def die_cores(self) -> int:
        """Cores of one die."""
        return self.clusters * self.cores

    @property
    def die_threads(self) -> int:
        """Places of one die."""
        return self.die_cores * self.threads

    @property
    def socket_threads(self) -> int:
        """Places of one socket."""
        return self.dies * self.die_threads

    @property
    def core_shift(self) -> int:
        """Bits of an APIC id below the number of the core."""
        return _bits(self.threads)

    @property
    def die_shift(self) -> int:
        """Bits of an APIC id below the number of the die."""
        return self.core_shift + _bits(self.die_cores)

    @property
    def socket_shift(self) -> int:
        """Bits of an APIC id below the number of the socket."""
        return self.die_shift + _bits(self.dies)

    def place(self, index: int) -> Place:
        """Where vCPU ``index`` sits; neighbours share a core, then a cluster, a die, a socket."""
        index, thread = divmod(index, self.threads)
        index, core = divmod(index, self.die_cores)
        socket, die = divmod(index, self.dies)
        return Place(socket, die, core, thread)

    def apic_id(self, index: int) -> int:
        """Of vCPU ``index``; 0 is that of the first, which starts the machine."""
        socket, die, core, thread = self.place(index)
        return socket << self.socket_shift | die << self.die_shift | core << self.core_shift | thread


def _bits(count: int) -> int:
    """That number ``count`` things from 0."""
    return (count - 1).bit_length()

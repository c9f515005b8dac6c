"""What is plugged into a machine, and how it is changed while it runs.

The law: plain frozen requests in, plain frozen facts out; managers see no device and no backend. A request
that cannot be carried out changes nothing and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

DeviceKind = Literal["block", "net"]


class BlockNode(NamedTuple):
    """A block backend.

    :ivar filename: relative to the directory of the launch.
    :ivar host_device: it has to be a block device.
    :ivar iops_total: requests per second, 0 is unlimited.
    """

    name: str
    filename: str
    driver: Literal["raw", "qcow2"] = "raw"
    host_device: bool = False
    read_only: bool = False
    direct: bool = False
    no_flush: bool = False
    discard: bool = False
    detect_zeroes: Literal["off", "on", "unmap"] = "off"
    iops_total: int = 0


class Netdev(NamedTuple):
    """A network backend: a tap by its name or by open descriptors, or user networking.

    :ivar fds: one per queue, owned by whoever carries the request out, also when that fails.
    """

    id: str
    type: Literal["tap", "user"] = "tap"
    ifname: str | None = None
    fds: tuple[int, ...] = ()
    vhost: bool = False
    vhostfds: tuple[int, ...] = ()
    queues: int = 1


class DeviceRequest(NamedTuple):
    """A device for one of the replaceable slots.

    :ivar slot: None: the lowest empty one.
    :ivar backend: name of the block or network backend.
    :ivar mac: 6 bytes; None: the slot's own.
    :ivar iothread: name of the thread that is to serve it; None: one of its own.
    """

    id: str
    kind: DeviceKind
    backend: str
    slot: int | None = None
    serial: str = ""
    mac: bytes | None = None
    iothread: str | None = None


class PluggedDevice(NamedTuple):
    """A device in a slot, and its backend."""

    id: str
    kind: DeviceKind
    slot: int
    backend: str


class BlockCount(NamedTuple):
    """Requests of one kind that a disk has had.

    :ivar operations: carried out.
    :ivar bytes: moved, discarded or made zero by them.
    :ivar failed: those that the host could not carry out.
    :ivar invalid: those that no disk could carry out.
    :ivar nanoseconds: that the host took in all.
    """

    operations: int = 0
    bytes: int = 0
    failed: int = 0
    invalid: int = 0
    nanoseconds: int = 0


class BlockActivity(NamedTuple):
    """What a disk has done since it was plugged in."""

    reads: BlockCount = BlockCount()
    writes: BlockCount = BlockCount()
    flushes: BlockCount = BlockCount()
    discards: BlockCount = BlockCount()


class DiskInfo(NamedTuple):
    """A disk of the guest's.

    :ivar writeback: what it writes may wait for a flush.
    """

    device: PluggedDevice
    node: BlockNode
    writeback: bool
    activity: BlockActivity


class NetworkInfo(NamedTuple):
    """A network backend, and the card that it is plugged into.

    :ivar peer: what it is, as ``type=…`` and its properties.
    :ivar card: id of the device; None: nothing uses the backend.
    :ivar mac: the card's, 6 bytes.
    :ivar link_up: is the card's link up? It goes down when the backend has lost its other end.
    """

    id: str
    peer: str
    card: str | None = None
    mac: bytes = bytes(6)
    link_up: bool = True


class IoThreadInfo(NamedTuple):
    """A running iothread, and its thread on the host."""

    id: str
    thread_id: int


class Inventory(Protocol):
    """The machine's replaceable devices and their backends, as managers see them.

    Every method that changes something takes its turn with others that do, and raises CommandError when it
    cannot.
    """

    async def add_block_node(self, node: BlockNode) -> None:
        """Open a block backend: the file is checked and locked now."""

    async def remove_block_node(self, name: str) -> None:
        """Close a block backend that no device uses."""

    async def add_netdev(self, netdev: Netdev) -> None:
        """Open a network backend."""

    async def remove_netdev(self, id: str) -> None:
        """Close a network backend that no device uses."""

    async def plug(self, request: DeviceRequest) -> None:
        """Put a device into an empty slot; the guest is told that its configuration has changed."""

    async def plug_console(self, id: str, chardev: str) -> None:
        """Plug in a virtconsole that the character device ``chardev`` carries; the guest is told."""

    async def unplug(self, id: str) -> None:
        """Take a device out of its slot; requests in flight are finished first, in ten seconds at most.

        Publishes DeviceDeleted before it returns.

        :raises CommandError: of class DeviceNotFound if there is no such device.
        """

    def devices(self) -> Sequence[PluggedDevice]:
        """What is plugged in now, in the order of slots, blocks first."""

    def disks(self) -> Sequence[DiskInfo]:
        """The disks that are plugged in, in the order of slots."""

    def networks(self) -> Sequence[NetworkInfo]:
        """The network backends, in the order in which they were added."""

    def iothreads(self) -> Sequence[IoThreadInfo]:
        """The iothreads that run, in the command line's order."""

    def block_nodes(self) -> Sequence[BlockNode]:
        """The block backends, in the order in which they were added."""

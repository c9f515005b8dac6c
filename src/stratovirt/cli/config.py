"""What the command line asks for, as frozen values.

The law: plain data, no behaviour, no defaults that depend on the host. A Config that
:func:`stratovirt.cli.parse` returned is consistent: ids are unique, every reference has its target.

NamedTuples rather than dataclasses, and annotations that are evaluated rather than postponed: defining
one takes 0.1 ms instead of 0.6 ms, and every start of a VM pays for all of them. The price: two of
different classes can be equal, so tell them apart by isinstance.
"""

from typing import Literal, NamedTuple

MIB = 1 << 20
GIB = 1 << 30

DEFAULT_MEMORY = 256 * MIB
DEFAULT_RINGBUF = 64 << 10  # bytes; QEMU's

Accel = Literal["kvm", "tcg", "kvm:tcg"]


class Machine(NamedTuple):
    """``-machine`` and ``-accel``."""

    type: Literal["microvm", "q35", "none"] = "microvm"
    accel: Accel = "kvm:tcg"
    dump_guest_core: bool = True
    mem_share: bool = False
    memory_backend: str | None = None
    acpi: Literal["on", "off", "auto"] = "auto"


class Cpu(NamedTuple):
    """``-cpu``: the model, and feature names switched on and off relative to it."""

    model: Literal["host"] = "host"
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Smp(NamedTuple):
    """``-smp``: maxcpus = sockets * dies * clusters * cores * threads, and cpus <= maxcpus."""

    cpus: int = 1
    maxcpus: int = 1
    sockets: int = 1
    dies: int = 1
    clusters: int = 1
    cores: int = 1
    threads: int = 1


class UnixAddress(NamedTuple):
    """A unix socket; the path is at most 107 bytes long."""

    path: str


class TcpAddress(NamedTuple):
    """A TCP socket; ``host`` is an IPv4 or IPv6 literal without brackets."""

    host: str
    port: int


Address = UnixAddress | TcpAddress


class StdioChardev(NamedTuple):
    """``-chardev stdio``: this process's stdin and stdout; at most one exists."""

    id: str


class PtyChardev(NamedTuple):
    """``-chardev pty``: a new pseudo-terminal."""

    id: str


class FileChardev(NamedTuple):
    """``-chardev file``: output goes to a file; there is no input."""

    id: str
    path: str


class NullChardev(NamedTuple):
    """``-chardev null``: output is dropped; there is no input."""

    id: str


class RingbufChardev(NamedTuple):
    """``-chardev ringbuf``: the last ``size`` bytes of output, a power of two."""

    id: str
    size: int = DEFAULT_RINGBUF


class SocketChardev(NamedTuple):
    """``-chardev socket``. ``wait``: a server holds the boot until its first client is there."""

    id: str
    address: Address
    server: bool = False
    wait: bool = False


Chardev = StdioChardev | PtyChardev | FileChardev | NullChardev | RingbufChardev | SocketChardev


class QmpMonitor(NamedTuple):
    """``-qmp``: a listener of its own. ``wait`` as in :class:`SocketChardev`."""

    address: Address
    wait: bool
    throttle: Literal["delay", "reject"] = "delay"


class Mon(NamedTuple):
    """``-mon``: a monitor on the chardev with that id."""

    chardev: str
    mode: Literal["control", "readline"]
    id: str | None = None


class Serial(NamedTuple):
    """``-serial``: the id of its chardev (None: connected to nothing).

    A backend given in place is among ``Config.chardevs``, as ``serial0`` unless it has an id.
    ``monitor``: the human monitor shares the chardev (``mon:stdio``).
    """

    chardev: str | None
    monitor: bool = False


class Drive(NamedTuple):
    """``-drive``. None in ``direct`` and ``aio``: not said. ``iops_total``: per second, 0 is unlimited."""

    file: str
    id: str | None = None
    readonly: bool = False
    direct: bool | None = None
    format: Literal["raw", "qcow2"] = "raw"
    interface: Literal["none", "pflash"] = "none"
    iops_total: int = 0
    aio: Literal["off", "threads", "native", "io_uring"] | None = None
    discard: bool = False
    detect_zeroes: Literal["off", "on", "unmap"] = "off"


class HostForward(NamedTuple):
    """``hostfwd=``: a port of the host's that leads to one of the guest's. ``address``: empty is all."""

    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    guest_port: int


class UserNetdev(NamedTuple):
    """``-netdev user``: network without privilege."""

    id: str
    forwards: tuple[HostForward, ...] = ()


class TapNetdev(NamedTuple):
    """``-netdev tap``: either an interface name or one inherited fd per queue."""

    id: str
    ifname: str | None = None
    fds: tuple[int, ...] = ()
    vhost: bool = False
    vhostfds: tuple[int, ...] = ()
    queues: int = 1


class VhostUserNetdev(NamedTuple):
    """``-netdev vhost-user``: the other end is behind a socket chardev."""

    id: str
    chardev: str


Netdev = UserNetdev | TapNetdev | VhostUserNetdev

Property = tuple[str, str | int | bool]


class Device(NamedTuple):
    """``-device``: the driver and its properties as given, by their names on the command line.

    Without ``id=`` the id is ``#device0``, ``#device1`` …, which nobody can type.
    """

    driver: str
    id: str
    properties: tuple[Property, ...] = ()

    def get(self, name: str) -> str | int | bool | None:
        """The property's value; None when it was not given."""
        return dict(self.properties).get(name)


class Object(NamedTuple):
    """``-object``: its type and its properties as given, by their names on the command line."""

    type: str
    id: str
    properties: tuple[Property, ...] = ()

    def get(self, name: str) -> str | int | bool | None:
        """The property's value; None when it was not given."""
        return dict(self.properties).get(name)


class Incoming(NamedTuple):
    """``-incoming``: the directory of the snapshot to restore.

    :ivar mapped: its memory becomes RAM page by page, as it is used; otherwise all of it is read.
    """

    directory: str
    mapped: bool = True


class Config(NamedTuple):
    """Everything that the command line says.

    ``memory`` is in bytes. None means: not given. ``ignored`` holds options that are accepted for
    compatibility and have no effect, as typed, so that each can be warned about.
    """

    machine: Machine = Machine()
    cpu: Cpu = Cpu()
    smp: Smp = Smp()
    memory: int = DEFAULT_MEMORY
    mem_path: str | None = None
    mem_prealloc: bool = False
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    drives: tuple[Drive, ...] = ()
    netdevs: tuple[Netdev, ...] = ()
    chardevs: tuple[Chardev, ...] = ()
    qmp: tuple[QmpMonitor, ...] = ()
    mons: tuple[Mon, ...] = ()
    serial: Serial | None = None
    devices: tuple[Device, ...] = ()
    objects: tuple[Object, ...] = ()
    incoming: Incoming | None = None
    freeze: bool = False
    name: str | None = None
    uuid: str | None = None
    log_file: str | None = None
    pidfile: str | None = None
    daemonize: bool = False
    no_shutdown: bool = False
    no_reboot: bool = False
    disable_seccomp: bool = False
    ignored: tuple[str, ...] = ()

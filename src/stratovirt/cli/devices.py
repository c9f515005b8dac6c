"""What is plugged into the machine: -drive, -netdev, -device, -object."""

from functools import partial
from typing import Any

from stratovirt.cli.config import Device, Drive, Object, TapNetdev, UserNetdev, VhostUserNetdev
from stratovirt.cli.schema import Key, Keys, Kinds
from stratovirt.cli.values import (
    FILE,
    HOST_FORWARD,
    ID,
    INTERFACE,
    MAC,
    MAX_MEMORY,
    NAME,
    SWITCH,
    TEXT,
    VSOCK_PATH,
    BadValue,
    Value,
    choice,
    number,
    numbers,
    size,
)

# StratoVirt's MAX_IOPS: beyond it throttling says nothing.
MAX_IOPS = 1_000_000

# StratoVirt's MAX_QUEUE_PAIRS; a tap has up to 256 in Linux.
MAX_QUEUE_PAIRS = 16

# RLIMIT_NOFILE's hard ceiling in Linux (fs.nr_open).
MAX_FD = 1 << 20

# Virtio 1.2, 5.10.4: CIDs 0, 1 and 2 and the upper 32 bits are reserved; 0xffffffff is VMADDR_CID_ANY.
MIN_GUEST_CID = 3
MAX_GUEST_CID = 0xFFFF_FFFE

# Of a virtio-serial device; StratoVirt's and QEMU's.
MAX_PORTS = 31

# QEMU's VIRTQUEUE_MAX_SIZE; virtio itself allows 32768.
MAX_QUEUE_SIZE = 1024

# A day; QEMU's own bound says nothing (UINT32_MAX).
MAX_POLLING_SECONDS = 86_400

_ID = Key("id", ID, required=True)


def _drive(**given: Any) -> Drive:
    drive = Drive(**given)
    if drive.id is None and drive.interface == "none":
        raise BadValue("id=ID is missing")
    return drive


def _discard(text: str) -> bool:
    if text not in ("unmap", "on", "ignore", "off"):
        raise BadValue("must be unmap or ignore")
    return text in ("unmap", "on")


DRIVE = Keys(
    _drive,
    (
        Key("file", FILE, required=True),
        Key("id", ID),
        Key("readonly", SWITCH),
        Key("direct", SWITCH),
        Key("format", choice("raw", "qcow2")),
        Key("if", choice("none", "pflash"), argument="interface"),
        Key("throttling.iops-total", number(0, MAX_IOPS), argument="iops_total"),
        Key("aio", choice("off", "threads", "native", "io_uring")),
        Key("discard", Value("unmap|ignore", _discard)),
        Key("detect-zeroes", choice("off", "on", "unmap")),
    ),
)


def _tap(
    id: str,
    ifname: str | None = None,
    fd: int | None = None,
    fds: tuple[int, ...] = (),
    vhost: bool | None = None,
    vhostfd: int | None = None,
    vhostfds: tuple[int, ...] = (),
    queues: int | None = None,
) -> TapNetdev:
    if sum((ifname is not None, fd is not None, bool(fds))) != 1:
        raise BadValue("needs one of ifname=, fd= and fds=")
    fds = fds if fd is None else (fd,)
    pairs = queues or len(fds) or 1
    if fds and len(fds) != pairs:
        raise BadValue(f"queues={pairs} needs as many fds, not {len(fds)}")
    vhostfds = _vhost_fds(vhost, vhostfd, vhostfds, pairs)
    return TapNetdev(id, ifname, fds, bool(vhost or vhostfds), vhostfds, pairs)


def _vhost_fds(
    vhost: bool | None, vhostfd: int | None, vhostfds: tuple[int, ...], pairs: int
) -> tuple[int, ...]:
    if vhostfd is not None and vhostfds:
        raise BadValue("vhostfd and vhostfds: give one")
    vhostfds = vhostfds if vhostfd is None else (vhostfd,)
    if vhostfds and vhost is False:
        raise BadValue("vhost=off allows no vhostfd")
    if vhostfds and len(vhostfds) != pairs:
        raise BadValue(f"{pairs} queues need as many vhostfds, not {len(vhostfds)}")
    return vhostfds


_FD = number(0, MAX_FD)
_FDS = numbers(0, MAX_FD)

NETDEV = Kinds(
    "type",
    {
        "user": Keys(UserNetdev, (_ID, Key("hostfwd", HOST_FORWARD, argument="forwards", repeatable=True))),
        "tap": Keys(
            _tap,
            (
                _ID,
                Key("ifname", INTERFACE),
                Key("fd", _FD),
                Key("fds", _FDS),
                Key("vhost", SWITCH),
                Key("vhostfd", _FD),
                Key("vhostfds", _FDS),
                Key("queues", number(1, MAX_QUEUE_PAIRS)),
            ),
        ),
        "vhost-user": Keys(VhostUserNetdev, (_ID, Key("chardev", ID, required=True))),
    },
)


def _device(driver: str, id: str = "", **given: Any) -> Device:
    """The id of a device without one is given where all devices are known."""
    return Device(driver, id, tuple(given.items()))


def _object(type: str, id: str, **given: Any) -> Object:
    return Object(type, id, tuple(given.items()))


def _property(name: str, value: Value, required: bool = False) -> Key:
    """A key whose value is kept under its own name."""
    return Key(name, value, required, argument=name)


_QUEUES = (
    _property("num-queues", number(1, 2 * MAX_QUEUE_PAIRS)),
    _property("queue-size", number(2, MAX_QUEUE_SIZE)),
    _property("iothread", ID),
    _property("bootindex", number(0, 255)),
)
_BLOCK_SIZE = number(512, 32768)
_GUEST_CID = _property("guest-cid", number(MIN_GUEST_CID, MAX_GUEST_CID), required=True)

# Each virtio device, under the name that -device knows without its -device or -pci ending.
_VIRTIO: dict[str, tuple[Key, ...]] = {
    "virtio-blk": (
        _property("drive", ID, required=True),
        _property("serial", NAME),
        _property("logical_block_size", _BLOCK_SIZE),
        _property("physical_block_size", _BLOCK_SIZE),
        *_QUEUES,
    ),
    "virtio-net": (
        _property("netdev", ID, required=True),
        _property("mac", MAC),
        _property("mq", SWITCH),
        *_QUEUES,
    ),
    "virtio-serial": (_property("max_ports", number(1, MAX_PORTS)),),
    "virtio-balloon": (
        _property("deflate-on-oom", SWITCH),
        _property("free-page-reporting", SWITCH),
        _property("guest-stats-polling-interval", number(0, MAX_POLLING_SECONDS)),
    ),
    "virtio-rng": (
        _property("rng", ID, required=True),
        _property("max-bytes", number(1, 1 << 63)),
        _property("period", number(1, 1 << 32)),
    ),
    "virtio-vsock": (_GUEST_CID, _property("uds-path", VSOCK_PATH, required=True)),
    "vhost-vsock": (_GUEST_CID, _property("vhostfd", _FD)),
    "vhost-user-fs": (_property("chardev", ID, required=True), _property("tag", NAME, required=True)),
}

# What a device on a PCI bus can be told besides.
_PCI = (
    _property("bus", ID),
    _property("addr", TEXT),
    _property("multifunction", SWITCH),
)
_BARE: dict[str, tuple[Key, ...]] = {
    "virtconsole": (_property("chardev", ID, required=True),),
    "pcie-root-port": (_property("port", TEXT), _property("chassis", number(0, 255)), *_PCI),
    "vfio-pci": (_property("host", TEXT, required=True), *_PCI),
}


def _drivers() -> dict[str, Keys]:
    schemas = {f"{name}-device": keys for name, keys in _VIRTIO.items()}
    schemas |= _BARE
    schemas |= {f"{name}-pci": (*keys, *_PCI) for name, keys in _VIRTIO.items()}
    return {name: Keys(partial(_device, name), (Key("id", ID), *keys)) for name, keys in schemas.items()}


DEVICE = Kinds("driver", _drivers())


def _memory_backend(*more: Key) -> tuple[Key, ...]:
    return (
        _property("size", size(1, MAX_MEMORY), required=True),
        *more,
        _property("share", SWITCH),
        _property("prealloc", SWITCH),
        _property("host-nodes", TEXT),
        _property("policy", choice("default", "preferred", "bind", "interleave")),
    )


_OBJECTS: dict[str, tuple[Key, ...]] = {
    "rng-random": (_property("filename", FILE),),
    "iothread": (),
    "memory-backend-ram": _memory_backend(),
    "memory-backend-file": _memory_backend(_property("mem-path", FILE, required=True)),
    "memory-backend-memfd": _memory_backend(),
}

OBJECT = Kinds(
    "qom-type", {name: Keys(partial(_object, name), (_ID, *keys)) for name, keys in _OBJECTS.items()}
)

"""From ``-netdev``, netdev_add and the network ``-device`` options to backends, and cards in their slots."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

from stratovirt.backends.net.tap import Tap
from stratovirt.backends.net.user import Forward, UserNet
from stratovirt.cli import Config, config
from stratovirt.devices.virtio.net import QUEUE_SIZE, NetBackend, VirtioNet
from stratovirt.errors import ConfigError, OptionError
from stratovirt.machine.inventory import DeviceRequest, Netdev, PluggedDevice
from stratovirt.nursery.helpers import Helper, Helpers
from stratovirt.nursery.hotplug import Backend, Slot
from stratovirt.nursery.slots import NET_DRIVER, NET_SLOTS, cards

VHOST_NET = "/dev/vhost-net"
SLOT_MAC = bytes.fromhex("525400123456")
"""Of the first slot; the next has the next, as in QEMU."""


class Network(Backend, NetBackend, Protocol):
    """A network backend with its owner's side."""


class Card(NamedTuple):
    """A device for the board, and the slot that it is in."""

    device: VirtioNet
    slot: Slot


def open_netdev(netdev: Netdev, helpers: Helpers) -> Network:
    """The backend; the descriptors of the request are its own from now on, also if it fails.

    :raises ConfigError: it cannot be had.
    """
    try:
        _refuse_vhost(netdev)
    except ConfigError:
        for fd in (*netdev.fds, *netdev.vhostfds):
            os.close(fd)
        raise
    if netdev.type == "user":
        return _open_user(netdev.id, (), helpers)
    if netdev.fds:
        return Tap(netdev.fds)
    if netdev.ifname is None:
        raise ConfigError(f"{netdev.id}: a tap needs one of ifname, fd and fds")
    return Tap.named(netdev.ifname, netdev.queues)


def open_option(spec: config.Netdev, helpers: Helpers) -> Network:
    """The backend of a ``-netdev``.

    :raises OptionError: it cannot be had.
    """
    try:
        if isinstance(spec, config.TapNetdev):
            return open_netdev(_tap_request(spec), helpers)
        assert isinstance(spec, config.UserNetdev)  # cli.notbuilt refuses the others
        return _open_user(spec.id, [Forward(*forward) for forward in spec.forwards], helpers)
    except ConfigError as error:
        raise OptionError(f"-netdev id={spec.id}", str(error)) from error


def slots(options: Config, backends: dict[str, Backend], first: int) -> Iterator[Card]:
    """The replaceable slots, filled with the command line's cards in its order.

    :param first: index of the first slot's device on the board.
    :raises OptionError: two cards want the same backend.
    """
    specs = cards(options)
    taken: dict[str, str] = {}
    for number in range(NET_SLOTS):
        mac = SLOT_MAC[:-1] + bytes([SLOT_MAC[-1] + number])
        if number >= len(specs):
            yield _card(VirtioNet(mac), first, number, None)
            continue
        spec = specs[number]
        netdev = str(spec.get("netdev"))
        if netdev in taken:
            raise OptionError(
                f"-device {NET_DRIVER},netdev={netdev}", f'device "{taken[netdev]}" uses it already'
            )
        taken[netdev] = spec.id
        device = _make(spec, mac, cast(Network, backends[netdev]))
        yield _card(device, first, number, PluggedDevice(spec.id, "net", number, netdev))


def _tap_request(spec: config.TapNetdev) -> Netdev:
    return Netdev(
        id=spec.id,
        ifname=spec.ifname,
        fds=spec.fds,
        vhost=spec.vhost,
        vhostfds=spec.vhostfds,
        queues=spec.queues,
    )


def _open_user(id: str, forwards: Sequence[Forward], helpers: Helpers) -> UserNet:
    backend = UserNet(forwards)
    helpers.adopt(Helper(f"passt of {id}", backend.take_output(), lambda: backend.closing))
    return backend


def _refuse_vhost(netdev: Netdev) -> None:
    if not netdev.vhost:
        return
    try:
        os.close(os.open(VHOST_NET, os.O_RDWR))
    except OSError as error:
        raise ConfigError(f"vhost=on: {VHOST_NET}: {error.strerror}; leave vhost out") from error
    raise ConfigError(f"vhost=on: {VHOST_NET} is there, but its use is not built yet; leave vhost out")


def _make(spec: config.Device, mac: bytes, backend: Network) -> VirtioNet:
    """The card that ``spec`` describes.

    :raises OptionError: a property cannot be had.
    """
    if spec.get("iothread") is not None:
        raise OptionError(
            f"-device {NET_DRIVER},iothread=", "a network card has its own thread; leave it out"
        )
    queue_size = cast(int, spec.get("queue-size") or QUEUE_SIZE)
    if queue_size & (queue_size - 1):
        raise OptionError(f"-device {NET_DRIVER},queue-size={queue_size}", "must be a power of two")
    pairs = len(backend.ports)
    queues = spec.get("num-queues")
    if queues is not None and queues != 2 * pairs:
        raise OptionError(
            f"-device {NET_DRIVER},num-queues={queues}",
            f"its netdev has {pairs} pairs, which makes {2 * pairs}",
        )
    given = spec.get("mac")
    if isinstance(given, str):
        mac = bytes.fromhex(given.replace(":", ""))
    return VirtioNet(mac, pairs, queue_size, backend)


def _card(device: VirtioNet, first: int, number: int, occupant: PluggedDevice | None) -> Card:
    def insert(backend: Backend, request: DeviceRequest) -> None:
        device.plug(cast(Network, backend), request.mac)

    return Card(device, Slot("net", first + number, number, insert, device, occupant))

"""From ``-drive``, ``-netdev``, ``-object`` and ``-device`` to the virtio devices of the board, slot by slot.

The law: what the host has to give for a device (files, taps, fds) is claimed here, before there is guest
memory, and given back by the launch's ExitStack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack

import trio

from stratovirt.cli import Config, config
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.rng import DEFAULT_PERIOD, NO_LIMIT, VirtioRng
from stratovirt.errors import OptionError
from stratovirt.machine.inventory import BlockNode, DeviceKind, Netdev
from stratovirt.nursery import disks, netcards, slots
from stratovirt.nursery.chardevs import Chardevs, device_user
from stratovirt.nursery.consoles import Consoles
from stratovirt.nursery.helpers import Helpers
from stratovirt.nursery.hotplug import Backend, Slot
from stratovirt.nursery.iothreads import IoThread

SPARE_PORTS = 4
"""Consoles that there is room for, at least: also for those that are hot-plugged."""
URANDOM = "/dev/urandom"

Maker = Callable[[config.Device, "Plugboard"], VirtioDevice]


def _make_rng(spec: config.Device, board: Plugboard) -> VirtioDevice:
    [source] = [thing for thing in board.options.objects if thing.id == spec.get("rng")]
    fd = _open_entropy(str(source.get("filename") or URANDOM), f"-object {source.type},id={source.id}")
    board.claimed.callback(os.close, fd)
    max_bytes, period = spec.get("max-bytes"), spec.get("period")
    return VirtioRng(
        fd,
        int(max_bytes) if max_bytes is not None else NO_LIMIT,
        int(period) / 1000 if period is not None else DEFAULT_PERIOD,
    )


def _open_entropy(path: str, option: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise OptionError(f"{option},filename={path}", f"{error.strerror}") from error
    if not stat.S_ISCHR(os.fstat(fd).st_mode):
        os.close(fd)
        raise OptionError(f"{option},filename={path}", "not a character device such as /dev/urandom")
    return fd


def _make_balloon(spec: config.Device, board: Plugboard) -> VirtioDevice:
    if board.balloon is not None:
        raise OptionError(f"-device {spec.driver}", "the machine has a balloon already")
    board.balloon = VirtioBalloon(
        board.options.memory,
        deflate_on_oom=bool(spec.get("deflate-on-oom")),
        page_reporting=bool(spec.get("free-page-reporting")),
        statistics_seconds=int(spec.get("guest-stats-polling-interval") or 0),
    )
    return board.balloon


def _make_serial(spec: config.Device, board: Plugboard) -> VirtioDevice:
    if board.consoles.device is not None:
        raise OptionError(f"-device {spec.driver}", "the machine has one already, for all consoles")
    given = len(_consoles(board.options))
    max_ports = int(spec.get("max_ports") or max(given, SPARE_PORTS))
    if given > max_ports:
        raise OptionError(f"-device {spec.driver},max_ports={max_ports}", f"there are {given} virtconsoles")
    device = VirtioConsole(max_ports)
    board.consoles = Consoles(device)
    return device


def _make_vsock(spec: config.Device, board: Plugboard) -> VirtioDevice:
    from stratovirt.nursery.vsock import make_vsock  # five modules that few machines need

    if [device.driver for device in slots.fixed(board.options)].count(spec.driver) > 1:
        raise OptionError(f"-device {spec.driver}", "given twice; Linux uses one")
    return make_vsock(spec, board.claimed)


def _make_fs(spec: config.Device, board: Plugboard) -> VirtioDevice:
    from stratovirt.nursery.filesystems import make_fs  # modules that few machines need

    return make_fs(spec, board.options, board.chardevs)


MAKERS: dict[str, Maker] = {
    "virtio-rng-device": _make_rng,
    "virtio-balloon-device": _make_balloon,
    "virtio-serial-device": _make_serial,
    "virtio-vsock-device": _make_vsock,
    "vhost-user-fs-device": _make_fs,
}
"""Of each of :data:`slots.FIXED_DRIVERS`."""


class Plugboard:
    """The board's virtio devices in slot order, and the host's resources that they use.

    Implements :class:`stratovirt.nursery.hotplug.Fittings`.

    :param claimed: gives everything back at the end of the run.
    :ivar helpers: programs that backends run, to be listened to in the tree.
    :raises OptionError: a resource cannot be had.
    """

    def __init__(self, options: Config, claimed: ExitStack, chardevs: Chardevs) -> None:
        self.options = options
        self.claimed = claimed
        self.chardevs = chardevs
        self.devices: list[VirtioDevice] = []
        self.slots: list[Slot] = []
        self.backends: dict[DeviceKind, dict[str, Backend]] = {"block": {}, "net": {}}
        self.nodes: dict[str, BlockNode] = {}
        self.balloon: VirtioBalloon | None = None
        self.iothreads: dict[str, IoThread] = {}
        self.consoles = Consoles()
        self.helpers = Helpers()
        claimed.callback(self.helpers.close)
        self.reserved = frozenset(spec.id for spec in slots.fixed(options))
        claimed.callback(self._close_backends)
        for thing in options.objects:
            if thing.type == "iothread":
                self.iothreads[thing.id] = IoThread(thing.id)
                claimed.callback(self.iothreads[thing.id].close)
        for drive in options.drives:
            self._add_drive(drive)
        for netdev in options.netdevs:
            self.backends["net"][netdev.id] = netcards.open_option(netdev, self.helpers)
        if options.machine.type != "none":
            self._add_block_slots()
            self._add_net_slots()
        for spec in slots.fixed(options):
            self.devices.append(MAKERS[spec.driver](spec, self))
        for spec in _consoles(options):
            self._add_console(spec)

    @classmethod
    def without_guest(cls) -> Plugboard:
        """That of ``-machine none``."""
        return cls(Config(machine=config.Machine("none")), ExitStack(), Chardevs())

    def open_disk(self, node: BlockNode) -> Backend:
        """See :class:`Fittings`."""
        return disks.open_disk(node, trio.from_thread.run_sync, self.helpers)

    def open_netdev(self, netdev: Netdev) -> Backend:
        """See :class:`Fittings`."""
        return netcards.open_netdev(netdev, self.helpers)

    def _add_net_slots(self) -> None:
        for device, slot in netcards.slots(self.options, self.backends["net"], len(self.devices)):
            self.devices.append(device)
            self.slots.append(slot)

    def _add_drive(self, drive: config.Drive) -> None:
        node, disk = disks.open_drive(drive, self.helpers)
        self.nodes[node.name] = node
        self.backends["block"][node.name] = disk

    def _add_block_slots(self) -> None:
        for device, slot in disks.slots(self.options, self.backends["block"], self.iothreads):
            self.devices.append(device)
            self.slots.append(slot)

    def _add_console(self, spec: config.Device) -> None:
        if self.consoles.device is None:
            raise OptionError(f"-device {spec.driver}", "needs a -device virtio-serial-device")
        self.consoles.add(spec.id, self.chardevs.use(str(spec.get("chardev")), device_user(spec.id)))

    def _close_backends(self) -> None:
        for backends in self.backends.values():
            for backend in backends.values():
                backend.close()


def _consoles(options: Config) -> list[config.Device]:
    return [device for device in options.devices if device.driver == "virtconsole"]

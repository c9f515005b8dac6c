"""From ``-drive``, ``-netdev``, ``-object`` and ``-device`` to the virtio devices of the board, slot by slot.

The law: what the host has to give for a device (files, taps, fds) is claimed here, before there is guest
memory, and given back by the launch's ExitStack.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from stratovirt.boot.platform import VIRTIO_GSIS
from stratovirt.cli import Config, config
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.errors import ConfigError, OptionError
from stratovirt.machine.inventory import BlockNode, DeviceKind, Netdev
from stratovirt.nursery.hotplug import Backend, Slot

Maker = Callable[[config.Device, "Plugboard"], VirtioDevice]

MAKERS: dict[str, Maker] = {}
"""By driver, the devices that take a slot behind the replaceable ones, in the command line's order."""


class Plugboard:
    """The board's virtio devices in slot order, and the host's resources that they use.

    Implements :class:`stratovirt.nursery.hotplug.Fittings`.

    :param claimed: gives everything back at the end of the run.
    :raises OptionError: a resource cannot be had.
    """

    def __init__(self, options: Config, claimed: ExitStack) -> None:
        self.options = options
        self.claimed = claimed
        self.devices: list[VirtioDevice] = []
        self.slots: list[Slot] = []
        self.backends: dict[DeviceKind, dict[str, Backend]] = {"block": {}, "net": {}}
        self.nodes: dict[str, BlockNode] = {}
        self.reserved = frozenset(spec.id for spec in _fixed(options))
        claimed.callback(self._close_backends)
        for spec in _fixed(options):
            self.devices.append(MAKERS[spec.driver](spec, self))

    @classmethod
    def without_guest(cls) -> Plugboard:
        """That of ``-machine none``."""
        return cls(Config(machine=config.Machine("none")), ExitStack())

    def open_disk(self, node: BlockNode) -> Backend:
        """See :class:`Fittings`."""
        raise ConfigError(f"{node.filename}: disks are not built yet")

    def open_netdev(self, netdev: Netdev) -> Backend:
        """See :class:`Fittings`."""
        raise ConfigError(f"{netdev.id}: network cards are not built yet")

    def _close_backends(self) -> None:
        for backends in self.backends.values():
            for backend in backends.values():
                backend.close()


def slot_count(options: Config) -> int:
    """How many virtio-mmio slots the machine has.

    :raises OptionError: there are more devices than slots.
    """
    fixed = _fixed(options)
    if len(fixed) > len(VIRTIO_GSIS):
        raise OptionError(
            f"-device {fixed[len(VIRTIO_GSIS)].driver}",
            f"no slot is left: the machine has {len(VIRTIO_GSIS)} for virtio devices",
        )
    return len(fixed)


def _fixed(options: Config) -> list[config.Device]:
    """The devices that stay for the life of the machine."""
    return [device for device in options.devices if device.driver in MAKERS]

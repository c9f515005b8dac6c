"""Which ``-device`` takes which virtio-mmio slot: disks, network cards, then those that stay.

It opens nothing and knows no device, for a boot is planned before the modules of the devices are loaded.
"""

from __future__ import annotations

from stratovirt.boot.platform import VIRTIO_GSIS
from stratovirt.cli import Config, config
from stratovirt.errors import OptionError

BLOCK_DRIVER, NET_DRIVER = "virtio-blk-device", "virtio-net-device"
BLOCK_SLOTS = 4
"""Replaceable ones; StratoVirt's MMIO_REPLACEABLE_BLK_NR."""
NET_SLOTS = 2

FIXED_DRIVERS = (
    "virtio-rng-device",
    "virtio-balloon-device",
    "virtio-serial-device",
    "virtio-vsock-device",
    "vhost-user-fs-device",
)
"""Those that take a slot behind the replaceable ones, for the life of the machine."""


def disks(options: Config) -> list[config.Device]:
    """The command line's disks.

    :raises OptionError: there are too many.
    """
    return _replaceable(options, BLOCK_DRIVER, BLOCK_SLOTS, "disks")


def cards(options: Config) -> list[config.Device]:
    """The command line's network cards.

    :raises OptionError: there are too many.
    """
    return _replaceable(options, NET_DRIVER, NET_SLOTS, "network cards")


def _replaceable(options: Config, driver: str, slots: int, kind: str) -> list[config.Device]:
    found = [device for device in options.devices if device.driver == driver]
    if len(found) > slots:
        raise OptionError(
            f"-device {driver},id={found[slots].id}", f"no slot is left: the machine has {slots} for {kind}"
        )
    return found


def fixed(options: Config) -> list[config.Device]:
    """The devices that stay, in the command line's order."""
    return [device for device in options.devices if device.driver in FIXED_DRIVERS]


def slot_count(options: Config) -> int:
    """How many virtio-mmio slots the machine has.

    :raises OptionError: there are more devices than slots.
    """
    disks(options)  # not too many ...
    cards(options)  # ... of either
    staying = fixed(options)
    most = len(VIRTIO_GSIS) - BLOCK_SLOTS - NET_SLOTS
    if len(staying) > most:
        raise OptionError(
            f"-device {staying[most].driver}",
            f"no slot is left: the machine has {most} for devices that are neither disks nor network cards",
        )
    return BLOCK_SLOTS + NET_SLOTS + len(staying)

"""What the command line knows and this version cannot do yet.

The law: this table is the only place that says so. Whoever builds a capability deletes its entry.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from stratovirt.cli.config import Config, Netdev, VhostUserNetdev
from stratovirt.cli.wording import shown
from stratovirt.errors import OptionError


class NotBuilt(NamedTuple):
    """A capability that is missing.

    :param option: its option, without the dash.
    :param part: the values of the option that need it; empty: the whole option.
    :param asked: the values, shortened, with which a Config asks for it.
    """

    option: str
    part: str
    asked: Callable[[Config], Iterable[str]]


def _driver(name: str) -> NotBuilt:
    return NotBuilt(
        "device", name, lambda c: [device.driver for device in c.devices if device.driver == name]
    )


def _netdev(kind: type[Netdev], type: str) -> NotBuilt:
    return NotBuilt("netdev", type, lambda c: [f"id={one.id}" for one in c.netdevs if isinstance(one, kind)])


NOT_BUILT = (
    NotBuilt("machine", "q35", lambda c: ["q35"] if c.machine.type == "q35" else []),
    NotBuilt("drive", "if=pflash", lambda c: ["if=pflash" for d in c.drives if d.interface == "pflash"]),
    _netdev(VhostUserNetdev, "vhost-user"),
    _driver("vhost-vsock-device"),
    _driver("vhost-user-fs-device"),
    _driver("virtio-blk-pci"),
    _driver("virtio-net-pci"),
    _driver("virtio-serial-pci"),
    _driver("virtio-balloon-pci"),
    _driver("virtio-rng-pci"),
    _driver("vhost-vsock-pci"),
    _driver("vhost-user-fs-pci"),
    _driver("pcie-root-port"),
    _driver("vfio-pci"),
)


def refuse_not_built(config: Config) -> None:
    """Refuse the first thing that ``config`` asks for and nobody has built yet.

    :raises OptionError: there is one.
    """
    for capability in NOT_BUILT:
        for value in capability.asked(config):
            raise OptionError(shown(f"-{capability.option} {value}".rstrip()), "not built yet")

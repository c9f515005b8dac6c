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
    :param why: what it would need, or what to take instead; empty: nothing to say.
    """

    option: str
    part: str
    asked: Callable[[Config], Iterable[str]]
    why: str = ""


def _driver(name: str, why: str = "") -> NotBuilt:
    return NotBuilt(
        "device", name, lambda c: [device.driver for device in c.devices if device.driver == name], why
    )


def _netdev(kind: type[Netdev], type: str, why: str) -> NotBuilt:
    return NotBuilt(
        "netdev", type, lambda c: [f"{type},id={one.id}" for one in c.netdevs if isinstance(one, kind)], why
    )


NO_PCI = "the microvm has no PCI bus"
NO_VHOST_VSOCK = "take virtio-vsock-device,guest-cid=N,uds-path=PATH, which needs no /dev/vhost-vsock"
VIRTIO = (
    "virtio-blk",
    "virtio-net",
    "virtio-serial",
    "virtio-balloon",
    "virtio-rng",
    "virtio-vsock",
    "vhost-user-fs",
)

NOT_BUILT = (
    NotBuilt("machine", "q35", lambda c: ["q35"] if c.machine.type == "q35" else [], "take microvm"),
    NotBuilt(
        "drive",
        "if=pflash",
        lambda c: ["if=pflash" for d in c.drives if d.interface == "pflash"],
        "there is no firmware; a microvm boots its -kernel",
    ),
    _netdev(VhostUserNetdev, "vhost-user", "take tap, or user"),
    *(_driver(f"vhost-vsock-{kind}", NO_VHOST_VSOCK) for kind in ("device", "pci")),
    *(_driver(f"{name}-pci", f"{NO_PCI}; take {name}-device") for name in VIRTIO),
    *(_driver(name, NO_PCI) for name in ("pcie-root-port", "vfio-pci")),
)


def refuse_not_built(config: Config) -> None:
    """Refuse the first thing that ``config`` asks for and nobody has built yet.

    :raises OptionError: there is one.
    """
    for capability in NOT_BUILT:
        for value in capability.asked(config):
            why = f": {capability.why}" if capability.why else ""
            raise OptionError(shown(f"-{capability.option} {value}".rstrip()), f"not built yet{why}")

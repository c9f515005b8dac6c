"""What the command line knows and this version cannot do yet.

The law: this table is the only place that says so. Whoever builds a capability deletes its entry.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from stratovirt.cli.config import Config, Cpu
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


NOT_BUILT = (
    NotBuilt("machine", "q35", lambda c: ["q35"] if c.machine.type == "q35" else []),
    NotBuilt("cpu", "features", lambda c: [f"host,{feature}" for feature in _features(c.cpu)]),
    NotBuilt("incoming", "", lambda c: [":".join(c.incoming)] if c.incoming else []),
    NotBuilt("drive", "", lambda c: [f"file={drive.file}" for drive in c.drives]),
    NotBuilt("netdev", "", lambda c: [f"id={netdev.id}" for netdev in c.netdevs]),
    NotBuilt("device", "", lambda c: [device.driver for device in c.devices]),
    NotBuilt("object", "", lambda c: [thing.type for thing in c.objects]),
)


def _features(cpu: Cpu) -> list[str]:
    return [f"+{name}" for name in cpu.added] + [f"-{name}" for name in cpu.removed]


def refuse_not_built(config: Config) -> None:
    """Refuse the first thing that ``config`` asks for and nobody has built yet.

    :raises OptionError: there is one.
    """
    for capability in NOT_BUILT:
        for value in capability.asked(config):
            raise OptionError(shown(f"-{capability.option} {value}".rstrip()), "not built yet")

"""The commands there are: each with its names, its help, its QMP command, and how to read and to show.

The law: what the interpreter knows, ``help`` prints and Tab completes comes from these two tables alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stratovirt.hmp import render, words


@dataclass(frozen=True)
class Command:
    """A command of the monitor, or a topic of ``info``.

    :ivar names: as typed; the first is its name, the others are short for it.
    :ivar parameters: its form, for ``help``.
    :ivar executes: the QMP command that does it; None for ``help`` and ``info``, and for what is
        not QMP's to tell.
    :ivar read: the rest of the line to that command's arguments; raises :class:`words.Misused`.
    :ivar show: its result to text.
    """

    names: tuple[str, ...]
    parameters: str
    help: str
    executes: str | None
    read: Callable[[str], dict[str, Any]] = words.nothing
    show: Callable[[Any], str] = render.silence

    @property
    def name(self) -> str:
        """The full name."""
        return self.names[0]

    def usage(self, prefix: str = "") -> str:
        """Its line of ``help``."""
        return f"{prefix}{'|'.join(self.names)} {self.parameters} -- {self.help}\n"


HELP = Command(("help", "?"), "[cmd]", "show the help", None)
INFO = Command(("info",), "[subcommand]", "show various information about the system state", None)

COMMANDS = (
    Command(
        ("balloon",),
        "target",
        "request VM to change its memory allocation (in MiB)",
        "balloon",
        words.mebibytes,
    ),
    Command(("cont", "c"), "", "resume emulation", "cont"),
    Command(
        ("device_add",),
        "driver[,prop=value][,...]",
        "add device, like -device on the command line",
        "device_add",
        words.device,
    ),
    Command(("device_del",), "device", "remove device", "device_del", words.device_id),
    HELP,
    INFO,
    Command(
        ("netdev_add",),
        "[tap|user],id=str[,prop=value][,...]",
        "add host network device",
        "netdev_add",
        words.netdev,
    ),
    Command(("netdev_del",), "id", "remove host network device", "netdev_del", words.device_id),
    Command(("quit", "q"), "", "quit the virtual machine", "quit"),
    Command(("stop", "s"), "", "stop emulation", "stop"),
    Command(("system_powerdown",), "", "send system power down event", "system_powerdown"),
    Command(("system_reset",), "", "reset the system", "system_reset"),
)


def _topic(
    name: str, help: str, executes: str | None, show: Callable[[Any], str] = render.silence
) -> Command:
    return Command((name,), "", help, executes, show=show)


TOPICS = (
    _topic("balloon", "show balloon information", "query-balloon", render.balloon),
    _topic("block", "show the block devices", "query-block", render.block),
    _topic("chardev", "show the character devices", "query-chardev", render.chardev),
    _topic("cpus", "show infos for each CPU", "query-cpus-fast", render.cpus),
    _topic("kvm", "show KVM information", "query-kvm", render.kvm),
    _topic("name", "show the current VM name", "query-name", render.name),
    _topic("network", "show the network state", None, render.network),
    _topic("status", "show the current VM status (running|paused)", "query-status", render.status),
    _topic("uuid", "show the current VM UUID", "query-uuid", render.uuid),
    _topic("version", "show the version of StratoVirt", "query-version", render.version),
)

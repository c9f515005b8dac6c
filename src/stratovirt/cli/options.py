"""The table of options: what the parser accepts and what help prints.

The law: an option is one entry here, in the group that help shows it under. ``value`` reads its text,
``field`` names the part of :class:`~stratovirt.cli.config.Config` that it fills.
"""

import enum
from typing import NamedTuple

from stratovirt.cli import chardevs, devices, vm
from stratovirt.cli.schema import Keys, Kinds
from stratovirt.cli.values import FILE, UUID, VERBATIM, Value


class EarlyExit(enum.Enum):
    """A command line that asks for a text instead of a machine."""

    HELP = "help"
    VERSION = "version"


class Takes(enum.Enum):
    """How many words follow an option: at least, and at most (None: any number)."""

    NOTHING = (0, 0)
    ONE = (1, 1)
    PERHAPS_ONE = (0, 1)
    SOME = (1, None)
    ANY = (0, None)


class Option(NamedTuple):
    """One option.

    :param names: without the dash; the first is the one that help and errors use.
    :param help: one line that says what it is for.
    :param field: of Config.
    :param value: reads the text behind the option.
    :param takes: how many words that text may have.
    :param repeatable: the field is a tuple, and each use adds to it.
    :param early: this option ends the run before it begins.
    """

    names: tuple[str, ...]
    help: str
    field: str = ""
    value: Value | Keys | Kinds | None = None
    takes: Takes = Takes.ONE
    repeatable: bool = False
    early: EarlyExit | None = None


class Group(NamedTuple):
    """Options that help shows under one title."""

    title: str
    options: tuple[Option, ...]


def _switch(names: str, help: str, field: str) -> Option:
    return Option(tuple(names.split()), help, field, takes=Takes.NOTHING)


def _ignored(name: str) -> Option:
    return Option((name,), "", "ignored", takes=Takes.ANY, repeatable=True)


GROUPS = (
    Group(
        "The machine",
        (
            Option(("machine",), "board, accelerator and guest memory sharing", "machine", vm.MACHINE),
            Option(("accel",), "kvm, the software CPU tcg, or the first that works", "accel", vm.ACCEL),
            Option(("cpu",), "CPU model, with features added and removed", "cpu", vm.CPU),
            Option(("smp",), "number of vCPUs and their topology; 1 by default", "smp", vm.SMP),
            Option(
                ("m",), "RAM, in MiB without a suffix, 128M to 512G; 256M by default", "memory", vm.MEMORY
            ),
            Option(("mem-path",), "file or hugetlbfs directory that backs the RAM", "mem_path", FILE),
            _switch("mem-prealloc", "take all RAM from the host at start", "mem_prealloc"),
            Option(("name",), "name of the virtual machine", "name", vm.NAME),
            Option(("uuid",), "UUID of the virtual machine", "uuid", UUID),
        ),
    ),
    Group(
        "The guest",
        (
            Option(("kernel",), "bzImage, ELF vmlinux or raw vmlinux.bin", "kernel", FILE),
            Option(("initrd",), "initial RAM disk", "initrd", FILE),
            Option(("append",), "kernel command line, quoted or not", "append", VERBATIM, Takes.SOME),
            Option(("incoming",), "restore a snapshot", "incoming", vm.INCOMING),
            _switch("S freeze", "do not start the vCPUs: wait for the command cont", "freeze"),
            _switch("no-reboot", "a guest's reboot ends the run", "no_reboot"),
            _switch(
                "no-shutdown", "a guest's power off stops the machine, but not this process", "no_shutdown"
            ),
        ),
    ),
    Group(
        "Console and management",
        (
            Option(
                ("serial",),
                "where ttyS0 goes; a backend takes its -chardev options",
                "serial",
                chardevs.SERIAL,
            ),
            Option(("qmp",), "listen for QMP clients", "qmp", chardevs.QMP, repeatable=True),
            Option(("mon",), "a monitor on a chardev", "mons", chardevs.MON, repeatable=True),
            Option(("chardev",), "a character device", "chardevs", chardevs.CHARDEV, repeatable=True),
        ),
    ),
    Group(
        "Devices",
        (
            Option(("drive",), "a disk image", "drives", devices.DRIVE, repeatable=True),
            Option(("netdev",), "host side of a network card", "netdevs", devices.NETDEV, repeatable=True),
            Option(("device",), "a device of the guest", "devices", devices.DEVICE, repeatable=True),
            Option(("object",), "something that devices use", "objects", devices.OBJECT, repeatable=True),
        ),
    ),
    Group(
        "The process",
        (
            Option(("D",), "log to a file instead of stderr", "log_file", FILE, Takes.PERHAPS_ONE),
            Option(("pidfile",), "write the process id to a file", "pidfile", FILE),
            _switch("daemonize", "go to the background once QMP answers", "daemonize"),
            _switch("disable-seccomp", "run without the system call filter", "disable_seccomp"),
            Option(("h", "help"), "print this", takes=Takes.NOTHING, early=EarlyExit.HELP),
            Option(("V", "version"), "print the version", takes=Takes.NOTHING, early=EarlyExit.VERSION),
        ),
    ),
    Group(
        "Accepted without effect, each with a warning",
        tuple(
            _ignored(name)
            for name in (
                "nodefaults",
                "no-user-config",
                "nographic",
                "overcommit",
                "sandbox",
                "msg",
                "rtc",
                "boot",
                "realtime",
                "display",
                "usb",
                "global",
            )
        ),
    ),
)

OPTIONS = {name: option for group in GROUPS for option in group.options for name in option.names}

"""What the virtual machine as a whole is made of: -machine, -accel, -cpu, -smp."""

from math import prod

from stratovirt.cli import values
from stratovirt.cli.config import Cpu, Incoming, Smp
from stratovirt.cli.schema import Key, Keys, single, split
from stratovirt.cli.values import ID, SWITCH, BadValue, Value, choice, is_word, number
from stratovirt.cli.wording import shown

# StratoVirt's MAX_VCPUS: an xAPIC id has 8 bits and 255 addresses all CPUs.
MAX_CPUS = 254

ACCEL = choice("kvm", "tcg", "kvm:tcg")


def _machine(usb: object = None, **given: object) -> dict[str, object]:
    """The fields of Machine that were given. StratoVirt's scripts say usb=off; nothing else is possible."""
    return given


MACHINE = Keys(
    _machine,
    (
        Key("type", choice("microvm", "q35", "none")),
        Key("accel", ACCEL),
        Key("dump-guest-core", SWITCH),
        Key("mem-share", SWITCH),
        Key("memory-backend", ID),
        Key("acpi", choice("on", "off", "auto")),
        Key("usb", choice("off")),
    ),
    implied=True,
)


def _cpu(text: str) -> Cpu:
    model, *features = split(text)
    if model != "host":
        raise BadValue(f"model must be host, not '{shown(model)}'")
    for feature in features:
        _check_feature(feature)
    added = tuple(feature[1:] for feature in features if feature[0] == "+")
    removed = tuple(feature[1:] for feature in features if feature[0] == "-")
    for name in added:
        if name in removed:
            raise BadValue(f"feature {name} is both added and removed")
    return Cpu("host", added, removed)


def _check_feature(feature: str) -> None:
    name = feature[1:]
    if feature[:1] not in ("+", "-") or not name or not is_word(name):
        raise BadValue(f"feature '{shown(feature)}' must be +NAME or -NAME")


CPU = Value("host[,+FEATURE][,-FEATURE]...", _cpu)


def _smp(
    cpus: int,
    maxcpus: int | None = None,
    sockets: int | None = None,
    dies: int = 1,
    clusters: int = 1,
    cores: int | None = None,
    threads: int | None = None,
) -> Smp:
    """Fill in what was not given by QEMU's rule: cores first, then sockets, then threads."""
    most = maxcpus or cpus
    if cores is None:
        sockets, threads = sockets or 1, threads or 1
        cores = most // (sockets * dies * clusters * threads)
    elif sockets is None:
        threads = threads or 1
        sockets = most // (dies * clusters * cores * threads)
    elif threads is None:
        threads = most // (sockets * dies * clusters * cores)
    topology = {"sockets": sockets, "dies": dies, "clusters": clusters, "cores": cores, "threads": threads}
    if cpus > most:
        raise BadValue(f"cpus={cpus} is more than maxcpus={most}")
    if prod(topology.values()) != most:
        product = " * ".join(f"{name}={count}" for name, count in topology.items())
        raise BadValue(f"{product} is not maxcpus={most}")
    return Smp(cpus, most, sockets, dies, clusters, cores, threads)


_COUNT = number(1, MAX_CPUS)

SMP = Keys(
    _smp,
    (
        Key("cpus", _COUNT, required=True),
        *(Key(name, _COUNT) for name in ("maxcpus", "sockets", "dies", "clusters", "cores", "threads")),
    ),
    implied=True,
)

MEMORY = single("size", values.MEMORY)
INCOMING = Keys(
    Incoming, (Key("directory", values.SNAPSHOT, required=True), Key("mapped", SWITCH)), implied=True
)
NAME = single("guest", values.NAME)

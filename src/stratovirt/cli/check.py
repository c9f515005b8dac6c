"""What no option can know alone: ids, references between options, things that exclude each other.

The law: pure, and silent about the host. Files, addresses in use and accelerators are others' to check.
"""

from collections.abc import Iterable, Iterator

from stratovirt.cli.config import (
    Address,
    Config,
    SocketChardev,
    StdioChardev,
    TcpAddress,
    UnixAddress,
    VhostUserNetdev,
)
from stratovirt.cli.wording import shown, suggestion
from stratovirt.errors import OptionError


def check(config: Config) -> None:
    """Refuse what contradicts itself.

    :raises OptionError: it does; the text names the option.
    """
    _check_ids(config)
    _check_references(config)
    _check_sharing(config)
    _check_backends(config)
    _check_memory(config)
    _check_addresses(config)
    _check_kernel(config)


def _check_ids(config: Config) -> None:
    """Ids are unique per kind: a device may well be called like its backend, as in StratoVirt and QEMU."""
    kinds: dict[str, Iterable[str | None]] = {
        "-drive": (drive.id for drive in config.drives),
        "-netdev": (netdev.id for netdev in config.netdevs),
        "-chardev": (chardev.id for chardev in config.chardevs),
        "-mon": (mon.id for mon in config.mons),
        "-device": (device.id for device in config.devices),
        "-object": (thing.id for thing in config.objects),
    }
    for option, ids in kinds.items():
        seen: set[str] = set()
        for id in ids:
            if id in seen:
                raise OptionError(f"{option} id={id}", f"another {option} has this id")
            if id is not None:
                seen.add(id)


def _chardev_users(config: Config) -> Iterator[tuple[str, str]]:
    """``(who, id of the chardev)`` for each option that uses one."""
    if config.serial is not None and config.serial.chardev is not None:
        yield f"-serial chardev:{config.serial.chardev}", config.serial.chardev
    for mon in config.mons:
        yield f"-mon chardev={mon.chardev}", mon.chardev
    for netdev in config.netdevs:
        if isinstance(netdev, VhostUserNetdev):
            yield f"-netdev vhost-user,chardev={netdev.chardev}", netdev.chardev
    yield from _device_references(config, "chardev")


def _device_references(config: Config, name: str) -> Iterator[tuple[str, str]]:
    """``(who, id)`` for each device with the property ``name``."""
    for device in config.devices:
        target = device.get(name)
        if isinstance(target, str):
            yield f"-device {device.driver},{name}={target}", target


def _check_references(config: Config) -> None:
    _refuse_unknown("-chardev", _chardev_users(config), [chardev.id for chardev in config.chardevs])
    _refuse_unknown(
        "-drive", _device_references(config, "drive"), [drive.id or "" for drive in config.drives]
    )
    _refuse_unknown("-netdev", _device_references(config, "netdev"), [netdev.id for netdev in config.netdevs])
    for name, type in (("rng", "rng-random"), ("iothread", "iothread")):
        objects = [thing.id for thing in config.objects if thing.type == type]
        _refuse_unknown(f"-object {type}", _device_references(config, name), objects)


def _refuse_unknown(option: str, references: Iterable[tuple[str, str]], known: list[str]) -> None:
    for who, target in references:
        if target not in known:
            raise OptionError(who, f"no {option} has this id; {suggestion(target, known)}")


def _check_sharing(config: Config) -> None:
    """A chardev has one user, and this process has one stdin."""
    users: dict[str, str] = {}
    for who, chardev in _chardev_users(config):
        if chardev in users:
            raise OptionError(who, f"{users[chardev]} uses it already")
        users[chardev] = who
    stdio = [chardev.id for chardev in config.chardevs if isinstance(chardev, StdioChardev)]
    if len(stdio) > 1:
        raise OptionError("-chardev stdio", f"{stdio[0]} and {stdio[1]} cannot share stdin and stdout")
    if stdio and config.daemonize:
        raise OptionError("-daemonize", f"chardev {stdio[0]} needs stdin and stdout")


def _check_backends(config: Config) -> None:
    """A drive has one device."""
    users: dict[str, str] = {}
    for device in config.devices:
        drive = device.get("drive")
        if isinstance(drive, str) and users.setdefault(drive, device.id) != device.id:
            raise OptionError(
                f"-device {device.driver},drive={drive}", f"device {users[drive]} uses it already"
            )


def _check_memory(config: Config) -> None:
    """RAM stands on one thing, which is as large."""
    if config.machine.memory_backend is None:
        return
    who = f"-machine memory-backend={config.machine.memory_backend}"
    backends = {thing.id: thing for thing in config.objects if thing.type.startswith("memory-backend-")}
    _refuse_unknown("-object memory-backend-*", [(who, config.machine.memory_backend)], list(backends))
    for option, given in (("-mem-path", config.mem_path), ("mem-share=on", config.machine.mem_share)):
        if given:
            raise OptionError(who, f"leave out {option}; the object says what RAM stands on")
    size = backends[config.machine.memory_backend].get("size")
    if size != config.memory:
        raise OptionError(who, f"it has {size} bytes, -m has {config.memory}")


def _check_addresses(config: Config) -> None:
    servers = [(monitor.address, f"-qmp {_address_text(monitor.address)}") for monitor in config.qmp]
    servers += [
        (chardev.address, f"-chardev {_address_text(chardev.address)}")
        for chardev in config.chardevs
        if isinstance(chardev, SocketChardev) and chardev.server
    ]
    servers += [(UnixAddress(path), who) for who, path in _device_references(config, "uds-path")]
    seen: set[Address] = set()
    for address, who in servers:
        if address in seen:
            raise OptionError(shown(who), "another listener has this address already")
        seen.add(address)


def _address_text(address: Address) -> str:
    """As -qmp takes it."""
    if isinstance(address, TcpAddress):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"tcp:{host}:{address.port}"
    return f"unix:{address.path}"


def _check_kernel(config: Config) -> None:
    if config.kernel is not None:
        return
    if config.machine.type == "microvm" and config.incoming is None:
        raise OptionError("-kernel", "missing; the microvm machine boots a kernel: -kernel FILE")
    for option, value in (("-initrd", config.initrd), ("-append", config.append)):
        if value is not None:
            raise OptionError(option, "needs -kernel")

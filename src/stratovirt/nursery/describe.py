"""What managers may ask about a run, told from its command line: this machine, and this program.

The law: everything is told from the tables that the command line itself is read by, so that no answer can
promise an option that is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from stratovirt.accel.choose import Name
from stratovirt.cli import Config
from stratovirt.cli.chardevs import CHARDEV
from stratovirt.cli.devices import DEVICE
from stratovirt.cli.notbuilt import NOT_BUILT
from stratovirt.cli.options import GROUPS, Option
from stratovirt.cli.schema import Key, Keys, Kinds
from stratovirt.cli.values import Value
from stratovirt.cli.vm import ACCEL, MACHINE, MAX_CPUS
from stratovirt.machine.info import MachineInfo
from stratovirt.nursery.prelude import topology_of
from stratovirt.qmp.catalog import Catalog, MachineType, OptionInfo, Parameter, TypeInfo, ValueType

KVM = "/dev/kvm"


def machine_info(options: Config, accelerator: Name) -> MachineInfo:
    """This machine."""
    guest = options.machine.type != "none"
    return MachineInfo(
        name=options.name,
        uuid=options.uuid,
        accelerator=accelerator,
        memory=options.memory if guest else 0,
        vcpus=options.smp.cpus if guest else 0,
        topology=topology_of(options.smp),
    )


def catalog() -> Catalog:
    """This program, on this host."""
    return Catalog(
        machines=tuple(_machines()),
        options=tuple(_options()),
        types=tuple(_types()),
        kvm_present=os.access(KVM, os.R_OK | os.W_OK),
    )


def _machines() -> Iterator[MachineType]:
    default = Config().machine.type
    for name in _machine_names():
        yield MachineType(name, MAX_CPUS if name != "none" else 0, is_default=name == default)


def _machine_names() -> list[str]:
    [kind] = [key.value for key in MACHINE.keys if key.name == "type"]
    return [name for name in kind.form.split("|") if name not in _missing("machine")]


def _missing(option: str) -> list[str]:
    """The parts of an option that are not built; "" for all of it."""
    return [capability.part for capability in NOT_BUILT if capability.option == option]


def _options() -> Iterator[OptionInfo]:
    for group in GROUPS:
        for option in group.options:
            if option.early is None and "" not in _missing(option.names[0]):
                yield OptionInfo(option.names[0], tuple(_parameters(option)))


def _parameters(option: Option) -> Iterator[Parameter]:
    if isinstance(option.value, Keys):
        yield from map(_parameter, option.value.keys)
    elif isinstance(option.value, Kinds):
        yield Parameter(option.value.key, "string", "|".join(option.value.kinds))
        keys = {key.name: key for kind in option.value.kinds.values() for key in kind.keys}
        yield from map(_parameter, keys.values())


def _parameter(key: Key) -> Parameter:
    return Parameter(key.name, _value_type(key.value), key.value.form)


def _value_type(value: Value) -> ValueType:
    if value.switch:
        return "boolean"
    if value.form == "N":
        return "number"
    return "size" if value.form.startswith("N[K") else "string"


def _types() -> Iterator[TypeInfo]:
    for parent, names in {
        "machine": [f"{name}-machine" for name in _machine_names()],
        "accel": [f"{name}-accel" for name in ACCEL.form.split("|") if ":" not in name],
        "cpu": ["host-x86_64-cpu"],
        "chardev": [f"chardev-{name}" for name in CHARDEV.kinds],
    }.items():
        yield TypeInfo(parent, "object", abstract=True)
        for name in names:
            yield TypeInfo(name, parent)
    yield TypeInfo("device", "object", abstract=True)
    missing = _missing("device")
    for name, keys in DEVICE.kinds.items():
        if name not in missing:
            yield TypeInfo(name, "device", properties=tuple(map(_parameter, keys.keys)))

"""What this program can do, for clients that probe it before they start a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.qmp.catalog import Catalog, Parameter, TypeInfo
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import nearest, quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import (
        DeviceListProperties,
        NoArguments,
        QomListTypes,
        QueryCommandLineOptions,
    )

DEVICE = "device"


@command("query-machines")
async def query_machines(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {
                "name": machine.name,
                **({"is-default": True} if machine.is_default else {}),
                "cpu-max": machine.cpu_max,
                "hotpluggable-cpus": False,
                "numa-mem-supported": False,
                "deprecated": False,
            }
            for machine in context.catalog.machines
        ]
    )


@command("query-command-line-options")
async def query_command_line_options(context: Context, arguments: QueryCommandLineOptions) -> Reply:
    options = {option.name: option for option in context.catalog.options}
    if arguments.option is not None:
        if arguments.option not in options:
            name, hint = quote(arguments.option), nearest(arguments.option, list(options))
            raise CommandError(f"query-command-line-options: argument 'option': no option {name}{hint}")
        options = {arguments.option: options[arguments.option]}
    return Reply(
        [
            {"option": name, "parameters": [_parameter(one, "help") for one in option.parameters]}
            for name, option in options.items()
        ]
    )


@command("qom-list-types")
async def qom_list_types(context: Context, arguments: QomListTypes) -> Reply:
    return Reply(
        [
            _type(kind)
            for kind in context.catalog.types
            if (arguments.abstract or not kind.abstract)
            and (arguments.implements is None or arguments.implements in _line(context.catalog, kind))
        ]
    )


@command("device-list-properties")
async def device_list_properties(context: Context, arguments: DeviceListProperties) -> Reply:
    for kind in context.catalog.types:
        if kind.name == arguments.typename and DEVICE in _line(context.catalog, kind):
            return Reply([_parameter(one, "description") for one in kind.properties])
    name = quote(arguments.typename)
    raise CommandError(f"device-list-properties: device type {name} not found", "DeviceNotFound")


def _parameter(parameter: Parameter, explained_as: str) -> dict[str, str]:
    return {"name": parameter.name, "type": parameter.type, explained_as: parameter.form}


def _type(kind: TypeInfo) -> dict[str, Any]:
    return {
        "name": kind.name,
        **({"parent": kind.parent} if kind.parent else {}),
        **({"abstract": True} if kind.abstract else {}),
    }


def _line(catalog: Catalog, kind: TypeInfo) -> set[str]:
    """A type and all above it."""
    above = {one.name: one.parent for one in catalog.types}
    line = {kind.name}
    parent = kind.parent
    while parent is not None:
        line.add(parent)
        parent = above.get(parent)
    return line


HANDLERS = (query_machines, query_command_line_options, qom_list_types, device_list_properties)

"""What this server is and knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote, version_info
from stratovirt.qmp.schemainfo import schema_info

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import NoArguments, QmpCapabilities


@command("qmp_capabilities")
async def qmp_capabilities(context: Context, arguments: QmpCapabilities) -> Reply:
    if arguments.enable:
        name = quote(arguments.enable[0])
        raise CommandError(f"qmp_capabilities: unknown capability {name} in 'enable': this server has none")
    return Reply()


@command("query-version")
async def query_version(context: Context, arguments: NoArguments) -> Reply:
    return Reply(version_info(context.version))


@command("query-commands")
async def query_commands(context: Context, arguments: NoArguments) -> Reply:
    return Reply([{"name": name} for name in context.registry.commands])


@command("query-events")
async def query_events(context: Context, arguments: NoArguments) -> Reply:
    return Reply([{"name": name} for name in context.registry.schemas.events])


@command("query-qmp-schema")
async def query_qmp_schema(context: Context, arguments: NoArguments) -> Reply:
    return Reply(schema_info(context.registry.schemas))


HANDLERS = (qmp_capabilities, query_version, query_commands, query_events, query_qmp_schema)

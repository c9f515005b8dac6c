"""Snapshots: taken, asked about, cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.machine.migration import MigrationInfo
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import Migrate, NoArguments


@command("migrate")
async def migrate(context: Context, arguments: Migrate) -> Reply:
    scheme, _, directory = arguments.uri.partition(":")
    if scheme != "file" or not directory or "\0" in directory:
        raise CommandError(f"migrate: uri {quote(arguments.uri)}: must be file:DIR, the snapshot's directory")
    await context.control.migration.save(directory)
    return Reply()


@command("query-migrate")
async def query_migrate(context: Context, arguments: NoArguments) -> Reply:
    return Reply(_answer(context.control.migration.info))


def _answer(info: MigrationInfo) -> dict[str, Any]:
    answer: dict[str, Any] = {"status": info.status.value}
    if info.ram is not None:
        answer["ram"] = info.ram._asdict()
    if info.milliseconds is not None:
        answer["total-time"] = info.milliseconds
    if info.problem is not None:
        answer["error-desc"] = info.problem
    return answer


@command("query-migrate-capabilities")
async def query_migrate_capabilities(context: Context, arguments: NoArguments) -> Reply:
    return Reply([])


@command("migrate_cancel")
async def migrate_cancel(context: Context, arguments: NoArguments) -> Reply:
    context.control.migration.cancel()
    return Reply()


HANDLERS = (migrate, query_migrate, query_migrate_capabilities, migrate_cancel)

"""Snapshots. None can be asked for yet, so there is none to report or to cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratovirt.qmp.handler import Context, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import NoArguments


@command("query-migrate")
async def query_migrate(context: Context, arguments: NoArguments) -> Reply:
    return Reply({"status": "none"})


@command("query-migrate-capabilities")
async def query_migrate_capabilities(context: Context, arguments: NoArguments) -> Reply:
    return Reply([])


@command("migrate_cancel")
async def migrate_cancel(context: Context, arguments: NoArguments) -> Reply:
    return Reply()


HANDLERS = (query_migrate, query_migrate_capabilities, migrate_cancel)

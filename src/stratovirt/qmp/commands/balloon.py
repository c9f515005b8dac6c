"""The balloon: balloon, query-balloon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratovirt.qmp.handler import Context, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import Balloon, NoArguments


@command("balloon")
async def balloon(context: Context, arguments: Balloon) -> Reply:
    await context.control.balloon.resize(arguments.value)
    return Reply()


@command("query-balloon")
async def query_balloon(context: Context, arguments: NoArguments) -> Reply:
    info = context.control.balloon.info()
    if info.statistics is None:
        return Reply({"actual": info.actual})
    stats = {f"stat-{name}": value for name, value in info.statistics.values.items()}
    return Reply({"actual": info.actual, "stats": stats, "last-update": info.statistics.time})


HANDLERS = (balloon, query_balloon)

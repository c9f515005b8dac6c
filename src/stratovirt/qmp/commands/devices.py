"""What is plugged into the machine, and what is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Handler, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import Balloon, NoArguments

# Lists of things that a machine cannot have yet; -drive and -object are refused at the start.
EMPTY = (
    "query-block",
    "query-block-jobs",
    "query-blockstats",
    "query-iothreads",
    "query-named-block-nodes",
)


def _listing_nothing(name: str) -> Handler:
    async def run(context: Context, arguments: Any) -> Reply:
        return Reply([])

    return Handler(name, run)


@command("query-chardev")
async def query_chardev(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {"label": chardev.label, "filename": chardev.filename, "frontend-open": chardev.in_use}
            for chardev in context.control.info.chardevs
        ]
    )


@command("balloon")
async def balloon(context: Context, arguments: Balloon) -> Reply:
    raise _no_balloon()


@command("query-balloon")
async def query_balloon(context: Context, arguments: NoArguments) -> Reply:
    raise _no_balloon()


def _no_balloon() -> CommandError:
    return CommandError("No balloon device has been activated", "DeviceNotActive")


HANDLERS = (query_chardev, balloon, query_balloon, *(_listing_nothing(name) for name in EMPTY))

"""The human monitor's lines, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import HumanMonitorCommand


@command("human-monitor-command")
async def human_monitor_command(context: Context, arguments: HumanMonitorCommand) -> Reply:
    if context.human_monitor is None:
        raise CommandError("human-monitor-command: this server has no human monitor")
    return await context.human_monitor(arguments.command_line)


HANDLERS = (human_monitor_command,)

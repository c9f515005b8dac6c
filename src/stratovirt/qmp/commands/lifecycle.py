"""Run, pause, reset, power down, end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratovirt.machine.control import RunState
from stratovirt.qmp.handler import Context, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import NoArguments


@command("query-status")
async def query_status(context: Context, arguments: NoArguments) -> Reply:
    state = context.control.state
    return Reply({"running": state is RunState.RUNNING, "singlestep": False, "status": state.value})


@command("stop")
async def stop(context: Context, arguments: NoArguments) -> Reply:
    await context.control.stop()
    return Reply()


@command("cont")
async def cont(context: Context, arguments: NoArguments) -> Reply:
    await context.control.cont()
    return Reply()


@command("system_reset")
async def system_reset(context: Context, arguments: NoArguments) -> Reply:
    await context.control.reset()
    return Reply()


@command("system_powerdown")
async def system_powerdown(context: Context, arguments: NoArguments) -> Reply:
    await context.control.powerdown()
    return Reply()


@command("quit")
async def quit(context: Context, arguments: NoArguments) -> Reply:
    # The reply goes first: who asked for the end must not have to guess if it was heard.
    return Reply(then=context.control.quit)


HANDLERS = (query_status, stop, cont, system_reset, system_powerdown, quit)

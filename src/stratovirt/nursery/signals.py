"""Signals that end the process in an orderly way."""

from __future__ import annotations

import signal

import trio

from stratovirt.machine.events import Cause
from stratovirt.nursery.supervisor import Supervisor

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def end_on_signals(
    supervisor: Supervisor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Ask for the end at the first of them; later ones find it under way."""
    with trio.open_signal_receiver(*ENDING) as received:
        task_status.started()
        async for number in received:
            supervisor.end(Cause.HOST_SIGNAL, detail=signal.Signals(number).name)

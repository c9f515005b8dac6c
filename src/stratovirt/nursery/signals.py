"""Signals that end the process in an orderly way."""

from __future__ import annotations

import signal

import trio

from stratovirt.machine.events import Cause
from stratovirt.nursery import signalmask
from stratovirt.nursery.supervisor import Supervisor


async def end_on_signals(
    supervisor: Supervisor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Ask for the end at the first of them; later ones find it under way.

    ``stratovirt`` holds them back before this runs and behind it (:mod:`stratovirt.nursery.signalmask`).
    """
    with trio.open_signal_receiver(*signalmask.ENDING) as received:
        mask = signalmask.let_through()
        try:
            task_status.started()
            async for number in received:
                supervisor.end(Cause.HOST_SIGNAL, detail=signal.Signals(number).name)
        finally:
            signalmask.put_back(mask)

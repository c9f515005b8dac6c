"""The root of the tree: one run of one machine, from the first listener to the last flushed event.

The law: shutdown has two phases. First every reply, the last console output and SHUTDOWN are flushed; then
the scopes are cancelled. Sockets and files are removed by who opened them, after this is over.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev
from stratovirt.errors import ConfigError
from stratovirt.machine.info import MachineInfo
from stratovirt.machine.microvm import Microvm
from stratovirt.nursery.console import Carrier, Console
from stratovirt.nursery.consoles import Consoles
from stratovirt.nursery.hotplug import Fittings
from stratovirt.nursery.machine import MachineTree, Task
from stratovirt.nursery.monitors import Monitor, Monitors, ReadlineMonitor
from stratovirt.nursery.signals import end_on_signals
from stratovirt.nursery.supervisor import NO_GUEST, Supervisor
from stratovirt.nursery.terminal import SharedConsole

if TYPE_CHECKING:
    from stratovirt.qmp.server import QmpServer

log = logging.getLogger(__name__)

# A client or terminal that reads nothing must not keep the process alive. QEMU does not wait at all.
FLUSH_SECONDS = 2.0
# What is left for SHUTDOWN itself when others have used that up.
LAST_FLUSH_SECONDS = 0.2


class Output(Protocol):
    """What is written to a console."""

    async def drain(self, deadline: float) -> object:
        """Wait until it is written, or nobody reads it, or ``deadline``."""


@dataclass(frozen=True)
class Launch:
    """All that a run needs, checked and claimed beforehand.

    :param take_board: waits for the board, to be closed by us; None for ``-machine none``, which has none.
    :param tidy: what can wait until the machine runs, called in a thread.
    :param port: where its console's line ends; the caller's, to be closed afterwards.
    :param terminal: the one that a console shares with the human monitor, by Ctrl-a c.
    :param wait_for: first connections that the machine's start waits for (``wait=on``).
    :param ready: called when monitors answer and the machine is built.
    :param info: what managers may ask about the machine.
    :param fittings: its replaceable devices and their backends; None: it has none.
    :param tasks: of the backends, run beside the machine's own.
    :param incoming: the board comes from a snapshot.
    """

    take_board: Callable[[], Microvm | None]
    port: BytePort
    console: Chardev | None
    monitors: Sequence[Monitor | ReadlineMonitor]
    wait_for: Sequence[trio.Event]
    ready: Callable[[], None]
    freeze: bool
    reboot: bool
    shutdown: bool
    terminal: Chardev | None = None
    info: MachineInfo = NO_GUEST
    fittings: Fittings | None = None
    tasks: Sequence[Task] = ()
    incoming: bool = False
    tidy: Callable[[], None] | None = None


async def run(launch: Launch) -> int:
    """Run until quit, a guest's power-off or a signal; the process's exit code."""
    supervisor = Supervisor(
        launch.info,
        launch.fittings,
        freeze=launch.freeze,
        waits=bool(launch.wait_for),
        incoming=launch.incoming,
        reboot=launch.reboot,
        shutdown=launch.shutdown,
    )
    consoles = Consoles() if launch.fittings is None else launch.fittings.consoles
    serial: Carrier | None = launch.console
    shared = None
    if launch.terminal is not None:
        shared = SharedConsole(launch.terminal, supervisor.quit)
        consoles.share(launch.terminal, shared)
        serial = shared if serial is launch.terminal else serial
    carry = (Console(launch.port, serial).serve, consoles.run)
    async with trio.open_nursery() as root:
        await root.start(end_on_signals, supervisor)
        built = trio.Event()
        root.start_soon(_run_machine, launch, built, supervisor, carry)
        monitors = Monitors(launch.monitors, shared, supervisor)
        root.start_soon(monitors.serve)
        await built.wait()
        if not supervisor.is_ending:
            launch.ready()
        if launch.tidy is not None:
            root.start_soon(trio.to_thread.run_sync, launch.tidy)
        ending = await supervisor.until_ended()
        await _flush(supervisor, monitors.server, (launch.port, consoles))
        root.cancel_scope.cancel()
    return ending.exit_code


async def _flush(supervisor: Supervisor, server: QmpServer, outputs: Sequence[Output]) -> None:
    """First phase of the shutdown: the reply to quit, then SHUTDOWN in a send of its own."""
    deadline = trio.current_time() + FLUSH_SECONDS
    with trio.move_on_at(deadline):
        await server.flushed()
    await supervisor.halt()
    for output in outputs:
        await output.drain(deadline)
    supervisor.publish_shutdown()
    await server.close(max(deadline - trio.current_time(), LAST_FLUSH_SECONDS))


async def _run_machine(
    launch: Launch, built: trio.Event, supervisor: Supervisor, carry: Sequence[Task]
) -> None:
    """Run the board; whatever goes wrong with it ends here.

    :param built: set when the board is there, or never will be.
    :param carry: the bytes of its consoles.
    """
    try:
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(supervisor.turn)  # a stop or reset waits for the machine
            board = await trio.to_thread.run_sync(launch.take_board)
            built.set()
            if board is not None:
                await _run_board(board, launch, supervisor, carry, turn)
            else:
                supervisor.attach(None)
    except* Exception as failed:
        error = _first(failed)
        if not isinstance(error, ConfigError):
            log.error("the machine's tasks failed", exc_info=failed)
        supervisor.fail(error)
    finally:
        built.set()


async def _run_board(
    board: Microvm, launch: Launch, supervisor: Supervisor, carry: Sequence[Task], turn: AsyncExitStack
) -> None:
    try:
        fittings = launch.fittings
        threads = fittings.iothreads.values() if fittings else ()
        served_by = (
            {slot.index: slot.iothread for slot in fittings.slots if slot.iothread} if fittings else {}
        )
        tree = MachineTree(board, supervisor, served_by)
        tasks = [*carry, *launch.tasks, *(thread.run for thread in threads)]
        await tree.run(tasks, launch.wait_for, turn)
    finally:
        await turn.aclose()
        with trio.CancelScope(shield=True):
            async with supervisor.turn:  # a reset that a client asked for may be using it
                board.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf: what failed first is what the others were cancelled for."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def main(launch: Launch) -> int:
    """Run the tree in a trio loop of its own."""
    gc.freeze()  # what the imports made is here to stay
    gc.enable()
    return trio.run(run, launch)

"""The root of the tree: one run of one machine, from the first listener to the last flushed event.

The law: shutdown has two phases. First every reply, the last console output and SHUTDOWN are flushed; then
the scopes are cancelled. Sockets and files are removed by who opened them, after this is over.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev
from stratovirt.errors import ConfigError
from stratovirt.machine.info import MachineInfo
from stratovirt.machine.microvm import Microvm
from stratovirt.nursery.console import Console, SharedConsole
from stratovirt.nursery.machine import MachineTree
from stratovirt.nursery.monitors import Monitor, Monitors, ReadlineMonitor
from stratovirt.nursery.signals import end_on_signals
from stratovirt.nursery.supervisor import NO_GUEST, Supervisor

if TYPE_CHECKING:
    from stratovirt.qmp.server import QmpServer

log = logging.getLogger(__name__)

# A client or terminal that reads nothing must not keep the process alive. QEMU does not wait at all.
FLUSH_SECONDS = 2.0
# A vCPU thread asks for the GIL thousands of times a second, and the default of 5 ms is a whole timer tick.
SWITCH_INTERVAL_SECONDS = 200e-6


@dataclass(frozen=True)
class Launch:
    """All that a run needs, checked and claimed beforehand.

    :param take_board: waits for the board, to be closed by us; None for ``-machine none``, which has none.
    :param console_shared: is ``console`` shared with the human monitor, by Ctrl-a c?
    :param wait_for: first connections that the machine's start waits for (``wait=on``).
    :param ready: called when monitors answer and the machine is built.
    :param info: what managers may ask about the machine.
    """

    take_board: Callable[[], Microvm | None]
    console: Chardev | None
    monitors: Sequence[Monitor | ReadlineMonitor]
    wait_for: Sequence[trio.Event]
    ready: Callable[[], None]
    freeze: bool
    reboot: bool
    shutdown: bool
    console_shared: bool = False
    info: MachineInfo = NO_GUEST


async def run(launch: Launch) -> int:
    """Run until quit, a guest's power-off or a signal; the process's exit code."""
    supervisor = Supervisor(launch.info, freeze=launch.freeze, reboot=launch.reboot, shutdown=launch.shutdown)
    port = BytePort()
    shared = _shared_console(launch, supervisor)
    console = Console(port, shared or launch.console)
    try:
        async with trio.open_nursery() as root:
            await root.start(end_on_signals, supervisor)
            settled = trio.Event()
            root.start_soon(_run_machine, launch, settled, supervisor, console)
            await (
                settled.wait()
            )  # importing QMP takes 30 ms, which the guest's first instruction need not wait
            monitors = Monitors(launch.monitors, shared, supervisor)
            root.start_soon(monitors.serve)
            if not supervisor.is_ending:
                launch.ready()
            ending = await supervisor.until_ended()
            await _flush(supervisor, monitors.server, port)
            root.cancel_scope.cancel()
    finally:
        port.close()
    return ending.exit_code


def _shared_console(launch: Launch, supervisor: Supervisor) -> SharedConsole | None:
    if launch.console is None or not launch.console_shared:
        return None
    return SharedConsole(launch.console, supervisor.quit)


async def _flush(supervisor: Supervisor, server: QmpServer, port: BytePort) -> None:
    """First phase of the shutdown: the reply to quit, then SHUTDOWN in a send of its own."""
    with trio.move_on_after(FLUSH_SECONDS):
        await server.flushed()
    await supervisor.halt()
    await port.drain(trio.current_time() + FLUSH_SECONDS)
    supervisor.publish_shutdown()
    await server.close(FLUSH_SECONDS)


async def _run_machine(launch: Launch, settled: trio.Event, supervisor: Supervisor, console: Console) -> None:
    """Run the board; whatever goes wrong with it ends here.

    :param settled: set when the guest runs, waits for a client, or never will.
    """
    try:
        async with supervisor.turn:
            board = await trio.to_thread.run_sync(launch.take_board)
        if board is not None:
            await _run_board(board, launch, settled, supervisor, console)
    except* ConfigError as refused:
        supervisor.refuse(str(_first(refused)))
    except* Exception as failed:
        log.error("the machine's tasks failed", exc_info=failed)
        supervisor.crash(_describe(_first(failed)))
    finally:
        settled.set()


async def _run_board(
    board: Microvm, launch: Launch, settled: trio.Event, supervisor: Supervisor, console: Console
) -> None:
    try:
        board.add_console(console.port)
        if launch.wait_for:
            settled.set()
            for first_client in launch.wait_for:
                await first_client.wait()
        await MachineTree(board, supervisor).run([console.serve], settled)
    finally:
        board.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf: what failed first is what the others were cancelled for."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def main(launch: Launch) -> int:
    """Run the tree in a trio loop of its own."""
    gc.freeze()  # what the imports made is here to stay
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    return trio.run(run, launch)

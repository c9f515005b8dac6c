"""The root of the tree: one run of one machine, from the first listener to the last flushed event.

The law: shutdown has two phases. First every reply, the last console output and SHUTDOWN are flushed; then
the scopes are cancelled. Sockets and files are removed by who opened them, after this is over.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev
from stratovirt.errors import ConfigError
from stratovirt.machine.microvm import Microvm, MicrovmSpec
from stratovirt.nursery.console import Console
from stratovirt.nursery.machine import MachineTree
from stratovirt.nursery.monitors import Monitor, Monitors
from stratovirt.nursery.signals import end_on_signals
from stratovirt.nursery.supervisor import Supervisor
from stratovirt.qmp.server import QmpServer

log = logging.getLogger(__name__)

# A client or terminal that reads nothing must not keep the process alive. QEMU does not wait at all.
FLUSH_SECONDS = 2.0
# A vCPU thread asks for the GIL thousands of times a second, and the default of 5 ms is a whole timer tick.
SWITCH_INTERVAL_SECONDS = 200e-6


@dataclass(frozen=True)
class Launch:
    """All that a run needs, checked and claimed beforehand.

    :param board: None for ``-machine none``, which runs no guest.
    :param wait_for: first connections that the machine's start waits for (``wait=on``).
    :param ready: called when monitors answer.
    """

    board: MicrovmSpec | None
    console: Chardev | None
    monitors: Sequence[Monitor]
    wait_for: Sequence[trio.Event]
    ready: Callable[[], None]
    freeze: bool
    reboot: bool
    shutdown: bool


async def run(launch: Launch) -> int:
    """Run until quit, a guest's power-off or a signal; the process's exit code."""
    supervisor = Supervisor(freeze=launch.freeze, reboot=launch.reboot, shutdown=launch.shutdown)
    server = QmpServer(supervisor)
    port = BytePort()
    try:
        async with trio.open_nursery() as root:
            await root.start(end_on_signals, supervisor)
            root.start_soon(Monitors(launch.monitors, server).serve)
            root.start_soon(_run_machine, launch, supervisor, Console(port, launch.console, supervisor))
            launch.ready()
            ending = await supervisor.until_ended()
            await _flush(supervisor, server, port)
            root.cancel_scope.cancel()
    finally:
        port.close()
    return ending.exit_code


async def _flush(supervisor: Supervisor, server: QmpServer, port: BytePort) -> None:
    """First phase of the shutdown: the reply to quit, then SHUTDOWN in a send of its own."""
    with trio.move_on_after(FLUSH_SECONDS):
        await server.flushed()
    await supervisor.halt()
    await port.drain(trio.current_time() + FLUSH_SECONDS)
    supervisor.publish_shutdown()
    await server.close(FLUSH_SECONDS)


async def _run_machine(launch: Launch, supervisor: Supervisor, console: Console) -> None:
    """Build and run the board; whatever goes wrong with it ends here."""
    if launch.board is None:
        return
    try:
        for first_client in launch.wait_for:
            await first_client.wait()
        await _run_board(launch.board, supervisor, console)
    except* ConfigError as refused:
        supervisor.refuse(str(_first(refused)))
    except* Exception as failed:
        log.error("the machine's tasks failed", exc_info=failed)
        supervisor.crash(_describe(_first(failed)))


async def _run_board(spec: MicrovmSpec, supervisor: Supervisor, console: Console) -> None:
    async with supervisor.turn:
        board = await trio.to_thread.run_sync(Microvm, spec, console.port)
    try:
        await MachineTree(board, supervisor).run([console.serve])
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
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    return trio.run(run, launch)

"""The monitors' branch of the tree: one listener per ``-qmp`` and ``-mon``, and the terminal if it is shared.

It outlives the machine, so that a client can always ask what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.cli import Config, config
from stratovirt.machine.control import MachineControl
from stratovirt.nursery.chardevs import MONITOR, Chardevs
from stratovirt.nursery.describe import catalog
from stratovirt.nursery.terminal import SharedConsole
from stratovirt.qmp.flow import Throttle
from stratovirt.qmp.handler import Reply

if TYPE_CHECKING:
    from stratovirt.hmp.session import HumanMonitor

# People at one monitor at a time; the next ones wait to be accepted. QEMU serves one.
MAX_PEOPLE = 16
# What a manager asks as it connects (query-status, query-version, ...) is answered by then, on a quiet host.
FIRST_QUESTIONS_SECONDS = 0.2


@dataclass(frozen=True)
class Monitor:
    """A QMP monitor on a character device."""

    chardev: Chardev
    throttle: Throttle


@dataclass(frozen=True)
class ReadlineMonitor:
    """A human monitor on a character device."""

    chardev: Chardev


def make(options: Config, sockets: Sequence[Chardev], chardevs: Chardevs) -> list[Monitor | ReadlineMonitor]:
    """Those of ``-qmp``, each on its socket, and of ``-mon``, each on a character device by id."""
    return [
        *(
            Monitor(chardevs.use(socket.id, MONITOR), Throttle(spec.throttle))
            for socket, spec in zip(sockets, options.qmp, strict=True)
        ),
        *(_make(spec, chardevs.use(spec.chardev, MONITOR)) for spec in options.mons),
    ]


def _make(spec: config.Mon, chardev: Chardev) -> Monitor | ReadlineMonitor:
    return ReadlineMonitor(chardev) if spec.mode == "readline" else Monitor(chardev, Throttle.DELAY)


class Monitors:
    """Every monitor of a run, in front of one server.

    :param terminal: a console that the human monitor shares.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor | ReadlineMonitor],
        terminal: SharedConsole | None,
        control: MachineControl,
    ) -> None:
        from stratovirt.qmp.server import QmpServer

        self.server = QmpServer(control, catalog=catalog(), human_monitor=self._run_line)
        self._control = control
        self._monitors = monitors
        self._terminal = terminal
        self._first_client = trio.Event()

    async def serve(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load_validators)
            for monitor in self._monitors:
                nursery.start_soon(self._serve, monitor)
            if self._terminal is not None:
                nursery.start_soon(self._terminal.run, self._serve_person)

    async def _serve(self, monitor: Monitor | ReadlineMonitor) -> None:
        if isinstance(monitor, ReadlineMonitor):
            await monitor.chardev.serve(self._serve_person, clients=MAX_PEOPLE)
        else:
            await monitor.chardev.serve(partial(self._serve_client, monitor.throttle))

    async def _serve_client(self, throttle: Throttle, stream: trio.abc.Stream) -> None:
        self._first_client.set()
        await self.server.serve_client(stream, throttle=throttle)

    async def _serve_person(self, stream: trio.abc.Stream) -> None:
        self._first_client.set()
        await self._human_monitor.serve_client(stream)

    async def _run_line(self, line: str) -> Reply:
        """A line of the human monitor, for QMP."""
        answer = await self._human_monitor.interpreter.run(line)
        return Reply(answer.text, answer.then)

    @cached_property
    def _human_monitor(self) -> HumanMonitor:
        """Imported for the first person or line: most runs see neither."""
        from stratovirt.hmp.interpreter import Interpreter
        from stratovirt.hmp.session import HumanMonitor

        return HumanMonitor(
            Interpreter(self.server.dispatcher, self.server.registry, self._control.inventory.networks)
        )

    async def _load_validators(self) -> None:
        """Once somebody talks to us, and behind what is asked first, which needs none: 0.2 s of imports.

        A command that does need them before that loads them itself.
        """
        await self._first_client.wait()
        await trio.sleep(FIRST_QUESTIONS_SECONDS)
        await trio.to_thread.run_sync(self.server.registry.load_validators)

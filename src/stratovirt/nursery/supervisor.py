"""The supervisor: owns the run state and is the control interface, before, during and after the machine.

The law: what changes the machine holds the turn lock; a state is entered and its event published without a
checkpoint between, so that no client can see one without the other.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from stratovirt.errors import CommandError, ConfigError, ImageError, StratovirtError
from stratovirt.machine.control import RunState
from stratovirt.machine.events import (
    Cause,
    EventBus,
    PowerdownRequested,
    Resumed,
    ShutDown,
    Stopped,
    WasReset,
)
from stratovirt.machine.info import MachineInfo, VcpuInfo
from stratovirt.machine.inventory import Inventory
from stratovirt.memory import BadAddress
from stratovirt.nursery.balloon import BalloonControl
from stratovirt.nursery.chardevs import ChardevControl
from stratovirt.nursery.devices import DeviceTask
from stratovirt.nursery.hotplug import Fittings, HotPlug
from stratovirt.nursery.plugging import Plugboard
from stratovirt.nursery.snapshots import SavableMachine, Snapshots

log = logging.getLogger(__name__)

EXIT_ORDERLY = 0
EXIT_REFUSED = 1
EXIT_AFTER_CRASH = 2

NO_GUEST = MachineInfo()
"""``-machine none``."""

# Which states each request is allowed in; docs/run-states.md shows the same table to users.
ALLOWED = {
    "stop": {RunState.RUNNING},
    "cont": {RunState.PRELAUNCH, RunState.PAUSED, RunState.POSTMIGRATE},
    "system_reset": {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED, RunState.SHUTDOWN},
    "system_powerdown": {RunState.RUNNING},
    "device_add": {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED},
    "device_del": {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED},
    "balloon": {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED},
    "migrate": {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED, RunState.POSTMIGRATE},
}


class SupervisedMachine(SavableMachine, Protocol):
    """The running machine as the supervisor drives it (:class:`stratovirt.nursery.machine.MachineTree`)."""

    @property
    def devices(self) -> Sequence[DeviceTask]:
        """Slot by slot."""

    async def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def reset(self) -> None:
        """Power-on state with the kernel loaded anew; only while paused."""

    def press_power_button(self) -> bool:
        """False if the guest was not told of such a button."""

    def vcpus(self) -> list[VcpuInfo]: ...

    def read_memory(self, gpa: int, length: int) -> bytes:
        """:raises BadAddress: no RAM is there."""


def _first_state(*, freeze: bool, waits: bool, incoming: bool) -> RunState:
    if incoming:
        return RunState.INMIGRATE
    return RunState.PRELAUNCH if freeze or waits else RunState.RUNNING


@dataclass(frozen=True)
class Ending:
    """How the process is to end."""

    cause: Cause
    exit_code: int


class Supervisor:
    """Implements :class:`stratovirt.machine.control.MachineControl`.

    :param info: what the machine is; of one without vCPUs none is waited for.
    :param fittings: its replaceable devices and their backends; None: a machine without any.
    :param freeze: begin in prelaunch and wait for ``cont`` (``-S``).
    :param waits: begin in prelaunch and run once the machine is attached (``wait=on``).
    :param incoming: begin in inmigrate, for the machine comes from a snapshot; then run, or with ``freeze``
        be paused.
    :param reboot: does a guest's reset restart it (else it ends the machine, ``-no-reboot``)?
    :param shutdown: does a guest's power-off end the process (else it stays, ``-no-shutdown``)?
    """

    def __init__(
        self,
        info: MachineInfo = NO_GUEST,
        fittings: Fittings | None = None,
        *,
        freeze: bool = False,
        waits: bool = False,
        incoming: bool = False,
        reboot: bool = True,
        shutdown: bool = True,
    ) -> None:
        self.info = info
        self.events = EventBus()
        self.turn = trio.Lock()
        self._state = _first_state(freeze=freeze, waits=waits, incoming=incoming)
        self._freeze = freeze
        self._job: str | None = None  # a command that holds the turn for long
        self._crash_reason: str | None = None
        self._reboot = reboot
        self._ends_on_shutdown = shutdown
        self._machine: SupervisedMachine | None = None
        self._built = trio.Event()  # or never to be
        fittings = fittings or Plugboard.without_guest()
        self.inventory: Inventory = HotPlug(self, fittings)
        self.balloon = BalloonControl(self, fittings.balloon)
        self.chardevs = ChardevControl(self, fittings.chardevs)
        self.migration = Snapshots(self, info.memory, restored=incoming)
        self._ending: Ending | None = None
        self._ended = trio.Event()

    @property
    def state(self) -> RunState:
        """The run state."""
        return self._state

    @property
    def crash_reason(self) -> str | None:
        """Why the state is internal-error."""
        return self._crash_reason

    async def vcpus(self) -> list[VcpuInfo]:
        """See :class:`MachineControl`."""
        if self.info.vcpus:
            await self._built.wait()
        return self._machine.vcpus() if self._machine is not None else []

    def read_memory(self, gpa: int, length: int) -> bytes:
        """See :class:`MachineControl`."""
        if self._machine is None:
            raise CommandError("query-mem-gpa: there is no guest memory: no machine runs")
        try:
            return self._machine.read_memory(gpa, length)
        except BadAddress as error:
            raise CommandError(f"query-mem-gpa: {error}") from error

    async def stop(self) -> None:
        """See :class:`MachineControl`."""
        async with self.changing("stop"):
            await self._pause("stop")
            self._enter(RunState.PAUSED)
            self.events.publish(Stopped())

    async def cont(self) -> None:
        """See :class:`MachineControl`."""
        async with self.changing("cont"):
            self._go_on()

    async def reset(self) -> None:
        """See :class:`MachineControl`."""
        async with self.changing("system_reset"):
            await self._reset("system_reset", Cause.HOST_QMP_SYSTEM_RESET)

    async def powerdown(self) -> None:
        """See :class:`MachineControl`."""
        async with self.changing("system_powerdown"):
            if self._machine is None or not self._machine.press_power_button():
                raise CommandError("system_powerdown: the guest has no ACPI power button (acpi=off)")
            self.events.publish(PowerdownRequested())

    def quit(self) -> None:
        """See :class:`MachineControl`."""
        self.end(Cause.HOST_QMP_QUIT)

    def end(self, cause: Cause, detail: str = "") -> None:
        """Let the process end for ``cause``; the first cause stays."""
        crashed = self._state is RunState.INTERNAL_ERROR
        self._end(Ending(cause, EXIT_AFTER_CRASH if crashed else EXIT_ORDERLY), detail)

    @property
    def is_ending(self) -> bool:
        """Has somebody asked for the end?"""
        return self._ending is not None

    async def until_ended(self) -> Ending:
        """Wait until somebody has asked for the end."""
        await self._ended.wait()
        assert self._ending is not None
        return self._ending

    async def halt(self) -> None:
        """Stop guest code for good, if any runs; the process ends."""
        async with self._changing():
            if self._machine is not None:
                await self._machine.pause()

    def publish_shutdown(self) -> None:
        """Publish SHUTDOWN for the cause of the end; a guest's own was published when it happened."""
        if self._ending is not None and not self._ending.cause.by_guest:
            self.events.publish(ShutDown(self._ending.cause))

    def _end(self, ending: Ending, detail: str) -> None:
        if self._ending is None:
            log.info("ending: %s %s", ending.cause.value, detail)
            self._ending = ending
            self.migration.cancel()
            self._ended.set()

    def attach(self, machine: SupervisedMachine | None) -> None:
        """The machine is built (None: ``-machine none`` has no guest): let it run if it is to run."""
        self._machine = machine
        self._built.set()
        if self._state is RunState.INMIGRATE and self._freeze:
            self._enter(RunState.PAUSED)
        elif self._state in (RunState.INMIGRATE, RunState.PRELAUNCH) and not self._freeze:
            self._enter(RunState.RUNNING)
            self.events.publish(Resumed())
        if self._state is RunState.RUNNING and machine is not None and not self.is_ending:
            machine.resume()

    def fail(self, error: BaseException) -> None:
        """The machine's tasks failed: a start that is refused, or a machine that crashed."""
        if isinstance(error, ConfigError) and not self._built.is_set():
            self._refuse(str(error))
        else:
            self._crash(str(error) if isinstance(error, StratovirtError) else repr(error))

    def _refuse(self, problem: str) -> None:
        """The machine cannot even be built: say so and end."""
        log.error("%s", problem)
        self._end(Ending(Cause.HOST_ERROR, EXIT_REFUSED), problem)

    def _crash(self, reason: str) -> None:
        """The machine is gone, the monitors stay."""
        log.error("the machine crashed: %s", reason)
        self._machine = None
        self._built.set()
        self._crash_reason = reason
        self._enter(RunState.INTERNAL_ERROR)
        self.events.publish(Stopped())

    async def obey_guest(self, cause: Cause) -> None:
        """Carry out a reset or power-off that the guest asked for."""
        async with self._changing():
            if self._machine is None or self.is_ending:
                return
            if cause is Cause.GUEST_RESET and self._reboot:
                await self._reset("reset", cause)
            else:
                await self._shut_down(cause)

    @asynccontextmanager
    async def changing(self, command: str) -> AsyncIterator[None]:
        """Hold the turn for ``command``, in a state that allows it.

        :raises CommandError: the state does not, or a job does not.
        """
        if self._job is not None:
            raise CommandError(f"{command}: {self._job} is under way; wait for it, or migrate_cancel it")
        async with self._changing():
            if command in ALLOWED:
                self._require(command)
            yield

    @asynccontextmanager
    async def saving(self, begun: Callable[[], None]) -> AsyncIterator[SavableMachine]:
        """See :class:`stratovirt.nursery.snapshots.Machine`."""
        async with self.changing("migrate"):
            if self._machine is None:
                raise CommandError("migrate: this machine has no guest")
            before, self._job = self._state, "migrate"
            begun()
            try:
                await self._pause("migrate")
                if before is RunState.RUNNING:
                    self._enter(RunState.PAUSED)
                    self.events.publish(Stopped())
                yield self._machine
                self._enter(RunState.POSTMIGRATE)
            except Exception:
                if before is RunState.RUNNING and self._state is RunState.PAUSED and not self.is_ending:
                    self._go_on()
                raise
            finally:
                self._job = None

    def device_task(self, index: int) -> DeviceTask:
        """The task of the device in slot ``index``.

        :raises CommandError: there is no machine.
        """
        if self._machine is None:
            raise CommandError("the machine is still being built")
        return self._machine.devices[index]

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Hold the turn; a client that vanishes half way cannot leave the change half done."""
        async with self.turn:
            with trio.CancelScope(shield=True):
                yield

    def _require(self, command: str) -> None:
        if self.is_ending:
            raise CommandError(f"{command}: the machine is shutting down")
        if self._state not in ALLOWED[command]:
            allowed = ", ".join(sorted(state.value for state in ALLOWED[command]))
            because = f" ({self._crash_reason})" if self._crash_reason else ""
            raise CommandError(
                f"{command}: the machine is in state {self._state.value}{because}; "
                f"the command is allowed in: {allowed}"
            )

    def _enter(self, state: RunState) -> None:
        log.info("run state %s -> %s", self._state.value, state.value)
        self._state = state

    async def _pause(self, command: str) -> None:
        """Bring the machine to a halt.

        :raises CommandError: it crashed meanwhile.
        """
        if self._machine is not None:
            await self._machine.pause()
        if self._state is RunState.INTERNAL_ERROR:
            raise CommandError(f"{command}: the machine crashed meanwhile ({self._crash_reason})")

    async def _reset(self, command: str, cause: Cause) -> None:
        await self._pause(command)
        if self._machine is not None:
            try:
                await self._machine.reset()
            except ImageError as error:
                self._resume_if_running()
                raise CommandError(f"{command}: {error}") from error
        self.balloon.deflate()
        if self._state is RunState.SHUTDOWN:
            self._enter(RunState.PAUSED)
        self._resume_if_running()
        self.events.publish(WasReset(cause))

    def _go_on(self) -> None:
        self._enter(RunState.RUNNING)
        self._resume_if_running()
        self.events.publish(Resumed())

    def _resume_if_running(self) -> None:
        if self._state is RunState.RUNNING and self._machine is not None:
            self._machine.resume()

    async def _shut_down(self, cause: Cause) -> None:
        """The guest is off: publish SHUTDOWN, then end, or stay stopped for ``-no-shutdown``."""
        await self._pause(cause.value)
        self._enter(RunState.SHUTDOWN)
        self.events.publish(ShutDown(cause))
        if self._ends_on_shutdown:
            self.end(cause)
        else:
            self.events.publish(Stopped())

"""Taking a snapshot: what becomes of the machine, and of those who want something of it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from stratovirt.errors import CommandError
from stratovirt.machine.control import RunState
from stratovirt.machine.events import Cause, Resumed, Stopped
from stratovirt.machine.info import MachineInfo
from stratovirt.machine.migration import MigrationInfo, MigrationStatus
from stratovirt.memory import GuestMemory
from stratovirt.nursery.snapshots import Write
from stratovirt.nursery.supervisor import Supervisor
from stratovirt.vmstate import Section
from tests.nursery.fakes import EventLog, FakeMachine

RAM = 128 << 20
WITHIN = 10


class SavedMachine(FakeMachine):
    """A machine with RAM; its devices are busy until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = GuestMemory.allocate(RAM)
        self.memory.write(1 << 20, b"\xa5" * (8 << 20))
        self.devices_are_busy = trio.Event()
        self.devices_are_free = trio.Event()
        self.devices_are_free.set()
        self.may_write = threading.Event()
        self.may_write.set()

    async def save(self, write: Write) -> None:
        self.devices_are_busy.set()
        await self.devices_are_free.wait()
        await trio.to_thread.run_sync(self._write, write)

    def _write(self, write: Write) -> None:
        assert self.may_write.wait(WITHIN)
        write(self.memory.regions, [Section("machine", 1, {})])


class Rig:
    """A supervisor with such a machine."""

    def __init__(self, **options: bool) -> None:
        self.supervisor = Supervisor(MachineInfo(memory=RAM), **options)
        self.machine = SavedMachine()
        self.log = EventLog(lambda: self.supervisor.state)
        self.supervisor.events._subscribers.append(self.log)
        self.supervisor.attach(self.machine)
        self.machine.calls.clear()

    @property
    def status(self) -> MigrationStatus:
        return self.supervisor.migration.info.status


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_running_machine_is_stopped_for_it_and_stays_so(rig: Rig, tmp_path: Path) -> None:
    assert rig.supervisor.migration.info == MigrationInfo()
    await rig.supervisor.migration.save(str(tmp_path / "template"))
    assert sorted(path.name for path in (tmp_path / "template").iterdir()) == ["memory", "state"]
    assert (rig.supervisor.state, rig.machine.calls) == (RunState.POSTMIGRATE, ["pause"])
    assert rig.log.seen == [(Stopped(), RunState.PAUSED)]
    info = rig.supervisor.migration.info
    assert (info.status, info.problem) == (MigrationStatus.COMPLETED, None)
    assert info.ram is not None
    assert (info.ram.total, info.ram.remaining) == (RAM, 0)
    assert info.ram.transferred >= 8 << 20


async def test_it_goes_on_by_cont_and_can_be_saved_again(rig: Rig, tmp_path: Path) -> None:
    await rig.supervisor.migration.save(str(tmp_path / "template"))
    await rig.supervisor.migration.save(str(tmp_path / "template"))
    await rig.supervisor.cont()
    assert rig.supervisor.state is RunState.RUNNING
    assert rig.log.events == [Stopped(), Resumed()]


@pytest.mark.parametrize("frozen", [False, True])
async def test_one_that_fails_leaves_the_machine_as_it_was(frozen: bool, tmp_path: Path) -> None:
    rig = Rig(freeze=frozen)
    before = rig.supervisor.state
    directory = tmp_path / "missing" / "template"
    with pytest.raises(CommandError, match=f"migrate: .*{tmp_path}/missing.*No such file or directory"):
        await rig.supervisor.migration.save(str(directory))
    assert rig.supervisor.state is before
    assert rig.log.events == ([] if frozen else [Stopped(), Resumed()])
    assert rig.machine.calls == (["pause"] if frozen else ["pause", "resume"])
    info = rig.supervisor.migration.info
    assert info.status is MigrationStatus.FAILED
    assert "No such file or directory" in str(info.problem)
    assert list(tmp_path.iterdir()) == []


CHANGES: dict[str, Callable[[Supervisor], Awaitable[None]]] = {
    "stop": Supervisor.stop,
    "cont": Supervisor.cont,
    "system_reset": Supervisor.reset,
    "system_powerdown": Supervisor.powerdown,
    "blockdev-del": lambda supervisor: supervisor.inventory.remove_block_node("x"),
    "device_del": lambda supervisor: supervisor.inventory.unplug("x"),
    "migrate": lambda supervisor: supervisor.migration.save("/nowhere"),
}


@pytest.mark.parametrize("command", CHANGES)
async def test_what_would_change_the_machine_meanwhile_is_refused_at_once(
    command: str, rig: Rig, tmp_path: Path
) -> None:
    rig.machine.may_write.clear()
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.supervisor.migration.save, str(tmp_path / "template"))
            await rig.machine.devices_are_busy.wait()
            with pytest.raises(CommandError, match=f"{command}: migrate is under way"):
                await CHANGES[command](rig.supervisor)
            rig.machine.may_write.set()
    assert rig.status is MigrationStatus.COMPLETED


@pytest.mark.parametrize("stage", ["devices", "write"])
async def test_one_that_is_cancelled_ends_at_once_and_the_machine_runs_on(
    stage: str, rig: Rig, tmp_path: Path
) -> None:
    if stage == "devices":
        rig.machine.devices_are_free = trio.Event()  # a disk that does not answer
    else:
        rig.machine.may_write.clear()
    refusals = []

    async def save() -> None:
        with pytest.raises(CommandError) as refused:
            await rig.supervisor.migration.save(str(tmp_path / "template"))
        refusals.append(str(refused.value))

    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save)
            await rig.machine.devices_are_busy.wait()
            rig.supervisor.migration.cancel()
            rig.machine.may_write.set()
    [refusal] = refusals
    assert "cancelled" in refusal
    assert (rig.status, rig.supervisor.state) == (MigrationStatus.CANCELLED, RunState.RUNNING)
    assert rig.log.events == [Stopped(), Resumed()]
    assert list(tmp_path.iterdir()) == []


async def test_whatever_goes_wrong_the_machine_goes_on_and_query_migrate_says_so(
    rig: Rig, tmp_path: Path
) -> None:
    async def explode(write: Write) -> None:
        raise MemoryError("injected")

    rig.machine.save = explode  # type: ignore[method-assign]
    with pytest.raises(CommandError, match="migrate: internal error"):
        await rig.supervisor.migration.save(str(tmp_path / "template"))
    assert (rig.status, rig.supervisor.state) == (MigrationStatus.FAILED, RunState.RUNNING)
    assert rig.log.events == [Stopped(), Resumed()]


async def test_one_that_is_cancelled_while_the_machine_is_paused_for_it_is_not_begun(
    rig: Rig, tmp_path: Path
) -> None:
    rig.machine.during_pause = rig.supervisor.migration.cancel
    with pytest.raises(CommandError, match="cancelled"):
        await rig.supervisor.migration.save(str(tmp_path / "template"))
    assert (rig.status, rig.supervisor.state) == (MigrationStatus.CANCELLED, RunState.RUNNING)
    assert not rig.machine.devices_are_busy.is_set()


async def test_to_cancel_none_does_nothing(rig: Rig, tmp_path: Path) -> None:
    rig.supervisor.migration.cancel()
    assert rig.status is MigrationStatus.NONE
    await rig.supervisor.migration.save(str(tmp_path / "template"))
    rig.supervisor.migration.cancel()
    assert rig.status is MigrationStatus.COMPLETED


async def test_quit_cancels_it_and_does_not_let_the_machine_go_on(rig: Rig, tmp_path: Path) -> None:
    rig.machine.devices_are_free = trio.Event()

    async def save() -> None:
        with pytest.raises(CommandError, match="cancelled"):
            await rig.supervisor.migration.save(str(tmp_path / "template"))

    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(save)
            await rig.machine.devices_are_busy.wait()
            rig.supervisor.end(Cause.HOST_QMP_QUIT)
            await rig.supervisor.halt()
    assert "resume" not in rig.machine.calls


async def test_a_client_that_vanishes_does_not_take_its_snapshot_along(rig: Rig, tmp_path: Path) -> None:
    rig.machine.may_write.clear()
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as client:
            client.start_soon(rig.supervisor.migration.save, str(tmp_path / "template"))
            await rig.machine.devices_are_busy.wait()
            client.cancel_scope.cancel()
            rig.machine.may_write.set()
    assert rig.status is MigrationStatus.COMPLETED


@pytest.mark.parametrize(
    ("frozen", "state", "events"),
    [(False, RunState.RUNNING, [Resumed()]), (True, RunState.PAUSED, [])],
)
async def test_a_restored_machine_runs_or_with_freeze_is_paused(
    frozen: bool, state: RunState, events: list[object]
) -> None:
    supervisor = Supervisor(MachineInfo(memory=RAM), freeze=frozen, incoming=True)
    log = EventLog(lambda: supervisor.state)
    supervisor.events._subscribers.append(log)
    assert supervisor.state is RunState.INMIGRATE
    assert supervisor.migration.info == MigrationInfo(MigrationStatus.COMPLETED)
    supervisor.attach(FakeMachine())
    assert (supervisor.state, log.events) == (state, events)
    if frozen:
        await supervisor.cont()

"""The run state: which request is allowed in which state, what it publishes, and in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from stratovirt.errors import AcceleratorError, CommandError
from stratovirt.machine.control import RunState
from stratovirt.machine.events import Cause, PowerdownRequested, Resumed, ShutDown, Stopped, WasReset
from stratovirt.nursery.supervisor import ALLOWED, Supervisor
from tests.nursery.fakes import EventLog, FakeMachine

REQUESTS: dict[str, Callable[[Supervisor], Awaitable[None]]] = {
    "stop": Supervisor.stop,
    "cont": Supervisor.cont,
    "system_reset": Supervisor.reset,
    "system_powerdown": Supervisor.powerdown,
}


def supervised(
    machine: FakeMachine | None = None, **options: bool
) -> tuple[Supervisor, FakeMachine, EventLog]:
    supervisor = Supervisor(**options)
    machine = machine or FakeMachine()
    log = EventLog(lambda: supervisor.state)
    supervisor.events._subscribers.append(log)
    supervisor.attach(machine)
    return supervisor, machine, log


async def test_a_machine_runs_as_soon_as_it_is_attached() -> None:
    supervisor, machine, _ = supervised()
    assert (supervisor.state, machine.calls) == (RunState.RUNNING, ["resume"])


async def test_a_frozen_machine_waits_for_cont() -> None:
    supervisor, machine, log = supervised(freeze=True)
    assert (supervisor.state, machine.calls) == (RunState.PRELAUNCH, [])
    await supervisor.cont()
    assert (supervisor.state, machine.calls) == (RunState.RUNNING, ["resume"])
    assert log.events == [Resumed()]


async def test_stop_and_cont_publish_their_event_in_the_new_state() -> None:
    supervisor, machine, log = supervised()
    await supervisor.stop()
    await supervisor.cont()
    assert machine.calls == ["resume", "pause", "resume"]
    assert log.seen == [(Stopped(), RunState.PAUSED), (Resumed(), RunState.RUNNING)]


@pytest.mark.parametrize("command", REQUESTS)
@pytest.mark.parametrize("state", RunState)
async def test_a_request_outside_its_states_is_refused_by_name_and_changes_nothing(
    command: str, state: RunState
) -> None:
    supervisor, machine, log = supervised()
    supervisor._state = state
    if state in ALLOWED[command]:
        await REQUESTS[command](supervisor)
        return
    with pytest.raises(CommandError, match=f"{command}: the machine is in state {state.value}"):
        await REQUESTS[command](supervisor)
    assert (supervisor.state, machine.calls, log.events) == (state, ["resume"], [])


async def test_reset_keeps_a_running_machine_running_and_a_paused_one_paused() -> None:
    supervisor, machine, log = supervised()
    await supervisor.reset()
    assert machine.calls == ["resume", "pause", "reset", "resume"]
    await supervisor.stop()
    machine.calls.clear()
    await supervisor.reset()
    assert (supervisor.state, machine.calls) == (RunState.PAUSED, ["pause", "reset"])
    assert log.events.count(WasReset(Cause.HOST_QMP_SYSTEM_RESET)) == 2


async def test_the_power_button_is_pressed_and_told() -> None:
    supervisor, machine, log = supervised()
    await supervisor.powerdown()
    assert machine.calls[-1] == "button"
    assert log.events == [PowerdownRequested()]


async def test_a_guest_without_acpi_has_no_power_button() -> None:
    supervisor, _, log = supervised(FakeMachine(has_button=False))
    with pytest.raises(CommandError, match="no ACPI power button"):
        await supervisor.powerdown()
    assert log.events == []


async def test_a_guests_reset_restarts_it() -> None:
    supervisor, machine, log = supervised()
    await supervisor.obey_guest(Cause.GUEST_RESET)
    assert machine.calls[-3:] == ["pause", "reset", "resume"]
    assert log.events == [WasReset(Cause.GUEST_RESET)]


async def test_a_guests_reset_ends_the_process_without_reboot() -> None:
    supervisor, machine, log = supervised(reboot=False)
    await supervisor.obey_guest(Cause.GUEST_RESET)
    assert log.events == [ShutDown(Cause.GUEST_RESET)]
    assert "reset" not in machine.calls
    assert (await supervisor.until_ended()).exit_code == 0


async def test_a_guests_power_off_ends_the_process_with_one_shutdown_event() -> None:
    supervisor, _, log = supervised()
    await supervisor.obey_guest(Cause.GUEST_SHUTDOWN)
    ending = await supervisor.until_ended()
    supervisor.publish_shutdown()
    assert (ending.cause, ending.exit_code) == (Cause.GUEST_SHUTDOWN, 0)
    assert log.seen == [(ShutDown(Cause.GUEST_SHUTDOWN), RunState.SHUTDOWN)]


async def test_no_shutdown_keeps_the_process_after_a_power_off_until_quit() -> None:
    supervisor, _, log = supervised(shutdown=False)
    await supervisor.obey_guest(Cause.GUEST_SHUTDOWN)
    assert supervisor.state is RunState.SHUTDOWN
    with trio.move_on_after(0) as patience:
        await supervisor.until_ended()
    assert patience.cancelled_caught
    supervisor.quit()
    assert (await supervisor.until_ended()).cause is Cause.HOST_QMP_QUIT
    supervisor.publish_shutdown()
    assert log.events == [ShutDown(Cause.GUEST_SHUTDOWN), Stopped(), ShutDown(Cause.HOST_QMP_QUIT)]


async def test_a_machine_that_is_off_can_be_reset_and_is_then_paused() -> None:
    supervisor, _, _ = supervised(shutdown=False)
    await supervisor.obey_guest(Cause.GUEST_SHUTDOWN)
    await supervisor.reset()
    assert supervisor.state is RunState.PAUSED


async def test_the_first_cause_of_an_end_stays() -> None:
    supervisor, _, _ = supervised()
    supervisor.end(Cause.HOST_SIGNAL)
    supervisor.quit()
    assert (await supervisor.until_ended()).cause is Cause.HOST_SIGNAL


async def test_a_crash_is_a_state_with_a_reason_and_quitting_after_it_exits_2() -> None:
    supervisor, machine, log = supervised()
    supervisor.fail(AcceleratorError("emulation failed"))
    assert (supervisor.state, supervisor.crash_reason) == (
        RunState.INTERNAL_ERROR,
        "emulation failed",
    )
    assert log.events == [Stopped()]
    with pytest.raises(CommandError, match="emulation failed"):
        await supervisor.cont()
    assert machine.calls == ["resume"]
    supervisor.quit()
    assert (await supervisor.until_ended()).exit_code == 2


async def test_a_crash_during_stop_is_not_painted_over_as_paused() -> None:
    supervisor, machine, _ = supervised()
    machine.during_pause = lambda: supervisor.fail(AcceleratorError("gone"))
    with pytest.raises(CommandError, match="crashed meanwhile"):
        await supervisor.stop()
    assert supervisor.state is RunState.INTERNAL_ERROR


async def test_a_client_that_vanishes_during_stop_leaves_a_whole_stop_behind() -> None:
    supervisor, machine, log = supervised()
    with trio.CancelScope() as client:
        machine.during_pause = client.cancel
        await supervisor.stop()
    assert (supervisor.state, log.events) == (RunState.PAUSED, [Stopped()])

"""The balloon as managers see it: within bounds, told as events, deflated by a reset."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.errors import CommandError
from stratovirt.machine.balloon import BalloonInfo
from stratovirt.machine.control import RunState
from stratovirt.machine.events import BalloonMoved, Event, WasReset
from stratovirt.nursery.plugging import Plugboard
from stratovirt.nursery.supervisor import ALLOWED, Supervisor
from tests.device.virtio import DriverRig, driving
from tests.nursery.fakes import FakeMachine

MIB = 1 << 20
RAM = 256 * MIB
PAGE = 4096


@pytest.fixture
def rig() -> Iterator[DriverRig]:
    with driving(VirtioBalloon(RAM), memory=RAM) as rig:
        rig.negotiate()
        yield rig


def supervised(device: VirtioBalloon | None) -> tuple[Supervisor, list[Event]]:
    fittings = Plugboard.without_guest()
    fittings.balloon = device
    supervisor = Supervisor(fittings=fittings)
    events: list[Event] = []
    supervisor.events._subscribers.append(events.append)
    supervisor.attach(FakeMachine())  # type: ignore[arg-type]  # it has no vCPUs to tell of
    return supervisor, events


def balloon(rig: DriverRig) -> VirtioBalloon:
    assert isinstance(rig.device, VirtioBalloon)
    return rig.device


@pytest.mark.parametrize(
    ("asked", "left"), [(200 * MIB, 200 * MIB), (0, 128 * MIB), (2 << 40, RAM), (200 * MIB + 1, 200 * MIB)]
)
async def test_the_guest_is_asked_for_what_is_possible(rig: DriverRig, asked: int, left: int) -> None:
    supervisor, _ = supervised(balloon(rig))
    await supervisor.balloon.resize(asked)
    pages = (RAM - left) // PAGE
    assert rig.config(0, 4) in (pages, pages - 1)


async def test_what_the_guest_has_is_told_and_published(rig: DriverRig) -> None:
    supervisor, events = supervised(balloon(rig))
    assert supervisor.balloon.info() == BalloonInfo(RAM)
    rig.transport.mmio_write(0x104, 4, 256)
    rig.serve()
    assert supervisor.balloon.info() == BalloonInfo(RAM - MIB)
    assert events == [BalloonMoved(RAM - MIB)]


async def test_a_reset_deflates_it(rig: DriverRig) -> None:
    supervisor, events = supervised(balloon(rig))
    await supervisor.balloon.resize(RAM - MIB)
    await supervisor.reset()
    assert rig.config(0, 4) == 0
    assert isinstance(events[-1], WasReset)


@pytest.mark.parametrize("state", RunState)
async def test_it_is_moved_in_the_states_that_allow_it(rig: DriverRig, state: RunState) -> None:
    supervisor, _ = supervised(balloon(rig))
    supervisor._enter(state)
    if state in ALLOWED["balloon"]:
        await supervisor.balloon.resize(RAM - MIB)
    else:
        with pytest.raises(CommandError, match=f"balloon: the machine is in state {state.value}"):
            await supervisor.balloon.resize(RAM - MIB)
    assert supervisor.balloon.info().actual == RAM


async def test_a_machine_without_one_says_so_in_the_class_of_its_own() -> None:
    supervisor, _ = supervised(None)
    with pytest.raises(CommandError, match="No balloon device has been activated") as asked:
        supervisor.balloon.info()
    with pytest.raises(CommandError, match="No balloon device has been activated") as moved:
        await supervisor.balloon.resize(RAM)
    assert asked.value.error_class == moved.value.error_class == "DeviceNotActive"

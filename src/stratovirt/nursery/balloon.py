"""Between the managers' wish and the balloon in the guest."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stratovirt.cli.values import MIN_MEMORY
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.errors import CommandError
from stratovirt.machine.balloon import BalloonInfo, GuestStatistics
from stratovirt.machine.events import BalloonMoved, EventBus


class Machine(Protocol):
    """What of the supervisor the balloon needs."""

    events: EventBus

    def changing(self, command: str) -> AbstractAsyncContextManager[None]:
        """Hold the turn, in a state that allows ``command``.

        :raises CommandError: the state does not.
        """


class BalloonControl:
    """Implements :class:`stratovirt.machine.balloon.Balloon`.

    :param device: None: the machine has none.
    """

    def __init__(self, machine: Machine, device: VirtioBalloon | None) -> None:
        self._machine = machine
        self._device = device
        if device is not None:
            device.moved = lambda actual: machine.events.publish(BalloonMoved(actual))

    async def resize(self, size: int) -> None:
        """See :class:`Balloon`; a guest is left what a machine can be started with (``-m``)."""
        device = self._active()
        async with self._machine.changing("balloon"):
            device.set_target(max(size, MIN_MEMORY))

    def info(self) -> BalloonInfo:
        """See :class:`Balloon`."""
        device = self._active()
        said = device.statistics
        return BalloonInfo(device.actual, None if said is None else GuestStatistics(*said))

    def deflate(self) -> None:
        """The machine was reset: the guest begins with all of its memory."""
        if self._device is not None:
            self._device.set_target(self._device.memory)

    def _active(self) -> VirtioBalloon:
        if self._device is None:
            raise CommandError("No balloon device has been activated", "DeviceNotActive")
        return self._device

"""Domain events: what happens to a virtual machine, and the bus that tells everybody.

The machine emits these; qmp gives them their wire names. Publishing never blocks and never fails: a
subscriber is a plain function that takes note (sessions keep a bounded queue of their own).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Cause(enum.Enum):
    """Why a machine was reset or shut down; the values are QEMU's words (qapi/run-state.json)."""

    HOST_QMP_QUIT = "host-qmp-quit"
    HOST_QMP_SYSTEM_RESET = "host-qmp-system-reset"
    HOST_SIGNAL = "host-signal"
    HOST_ERROR = "host-error"
    GUEST_SHUTDOWN = "guest-shutdown"
    GUEST_RESET = "guest-reset"

    @property
    def by_guest(self) -> bool:
        """Did the guest ask for it?"""
        return self.value.startswith("guest-")


@dataclass(frozen=True)
class Stopped:
    """All vCPUs have left guest code."""


@dataclass(frozen=True)
class Resumed:
    """The vCPUs run guest code."""


@dataclass(frozen=True)
class PowerdownRequested:
    """The guest has been asked to power down (ACPI power button)."""


@dataclass(frozen=True)
class WasReset:
    """The machine has been reset and its kernel loaded anew."""

    cause: Cause


@dataclass(frozen=True)
class ShutDown:
    """The machine has shut down, or will in a moment."""

    cause: Cause


@dataclass(frozen=True)
class DeviceDeleted:
    """A device has gone from the machine; its id is free."""

    id: str


@dataclass(frozen=True)
class BalloonMoved:
    """The guest has got or given back memory by its balloon.

    :ivar actual: bytes that it has now.
    """

    actual: int


Event = Stopped | Resumed | PowerdownRequested | WasReset | ShutDown | DeviceDeleted | BalloonMoved
Subscriber = Callable[[Event], None]


class EventBus:
    """Delivers each event to every subscriber, in the order of publishing, before ``publish`` returns."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def publish(self, event: Event) -> None:
        """Call every subscriber with ``event``."""
        for subscriber in tuple(self._subscribers):
            subscriber(event)

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        """Within this block ``subscriber`` is called with every event."""
        self._subscribers.append(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)

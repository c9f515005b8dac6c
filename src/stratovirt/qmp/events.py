"""The names and data that domain events have on the QMP wire."""

from __future__ import annotations

from typing import Any, assert_never

from stratovirt.machine.events import (
    BalloonMoved,
    Cause,
    DeviceDeleted,
    Event,
    PowerdownRequested,
    Resumed,
    ShutDown,
    Stopped,
    WasReset,
)


def wire(event: Event) -> tuple[str, dict[str, Any]]:
    """Name and data of ``event``."""
    match event:
        case Stopped():
            return "STOP", {}
        case Resumed():
            return "RESUME", {}
        case PowerdownRequested():
            return "POWERDOWN", {}
        case WasReset(cause):
            return "RESET", _cause(cause)
        case ShutDown(cause):
            return "SHUTDOWN", _cause(cause)
        case DeviceDeleted(id):
            return "DEVICE_DELETED", {"device": id, "path": id}
        case BalloonMoved(actual):
            return "BALLOON_CHANGED", {"actual": actual}
    assert_never(event)


def _cause(cause: Cause) -> dict[str, Any]:
    return {"guest": cause.by_guest, "reason": cause.value}

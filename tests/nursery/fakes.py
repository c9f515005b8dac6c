"""Fakes of what the tree supervises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from stratovirt.accel.protocol import RunEnd
from stratovirt.machine.control import RunState
from stratovirt.machine.events import Event


class FakeVcpu:
    """A vCPU that is nothing but its number."""

    index = 0
    halted = False

    def registers(self) -> Mapping[str, int]:
        return {"rip": 0}


class FakeVcpuThread:
    """A vCPU thread whose guest code is waiting: for a kick, or for an end that the test gives it.

    ``entered`` counts the entries into guest code; ``inside`` says whether one is under way.
    """

    def __init__(self, name: str = "vcpu-0") -> None:
        self.name = name
        self.vcpus: Sequence[FakeVcpu] = [FakeVcpu()]
        self.entered = 0
        self.inside = False
        self._changed = threading.Condition()
        self._kicked = False
        self._end: RunEnd | BaseException | None = None

    def run(self) -> RunEnd:
        with self._changed:
            self.entered += 1
            self.inside = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._kicked or self._end is not None)
            self.inside = False
            end, self._end = self._end, None
            if end is None:
                self._kicked = False
                return RunEnd.KICKED
        if isinstance(end, BaseException):
            raise end
        return end

    def kick(self) -> None:
        with self._changed:
            self._kicked = True
            self._changed.notify_all()

    def end_with(self, end: RunEnd | BaseException) -> None:
        """Let guest code end by itself, or fail."""
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def wait_inside(self, seconds: float = 5) -> None:
        """Block until guest code runs."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.inside, seconds)


class FakeMachine:
    """A machine that notes how the supervisor drives it."""

    def __init__(self, *, has_button: bool = True) -> None:
        self.calls: list[str] = []
        self.has_button = has_button
        self.during_pause: Callable[[], None] = lambda: None

    async def pause(self) -> None:
        self.calls.append("pause")
        self.during_pause()

    def resume(self) -> None:
        self.calls.append("resume")

    async def reset(self) -> None:
        self.calls.append("reset")

    def press_power_button(self) -> bool:
        self.calls.append("button")
        return self.has_button


class EventLog:
    """Subscribes to a bus; keeps each event with the state that the machine was in."""

    def __init__(self, state: Callable[[], RunState]) -> None:
        self._state = state
        self.seen: list[tuple[Event, RunState]] = []

    def __call__(self, event: Event) -> None:
        self.seen.append((event, self._state()))

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in self.seen]

"""A vCPU thread under supervision: a runner task whose body is the thread, and a canceller beside it.

The law: a thread is inside guest code only while its gate is open, and is never abandoned. Cancelling
``trio.to_thread`` does not interrupt a thread, so the canceller closes the gate for good and kicks until
the thread is out.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable

import trio

from stratovirt.accel.protocol import RunEnd, VcpuThread

# A kick is not lost (VcpuThread.kick remembers it); kicking again bounds the damage if one were.
# KVM's tail from kick to exit is 5 ms on a nested host.
KICK_AGAIN_SECONDS = 0.02


class _Gate(enum.Enum):
    OPEN = "guest code may run"
    CLOSED = "the thread waits outside"
    ENDED = "the thread is to end"


class VcpuRunner:
    """Supervises one :class:`VcpuThread`.

    :param on_end: called on the vCPU thread when guest code ends by itself; the gate is closed by then.
    :ivar thread_id: of the host (gettid(2)); 0 until the thread has started.
    """

    def __init__(self, thread: VcpuThread, on_end: Callable[[VcpuThread, RunEnd], None]) -> None:
        self.thread = thread
        self.thread_id = 0
        self._on_end = on_end
        self._gate = _Gate.CLOSED
        self._inside = False
        self._changed = threading.Condition()
        self._left = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the thread and wait for its end; cancel to end it. Started when the thread is.

        :raises AcceleratorError: a vCPU cannot go on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_cancelled)
            self._token = trio.lowlevel.current_trio_token()
            await trio.to_thread.run_sync(
                self._body, task_status.started, limiter=trio.CapacityLimiter(1), thread_name=self.thread.name
            )
            nursery.cancel_scope.cancel()

    def close_gate(self) -> None:
        """Let the thread come out of guest code, without waiting for it. Any thread."""
        with self._changed:
            if self._gate is _Gate.OPEN:
                self._gate = _Gate.CLOSED
        self.thread.kick()

    async def pause(self) -> None:
        """Close the gate; returns when the thread is out of guest code."""
        self.close_gate()
        await self._until_outside()

    def resume(self) -> None:
        """Open the gate."""
        with self._changed:
            if self._gate is _Gate.CLOSED:
                self._gate = _Gate.OPEN
                self._changed.notify()

    async def _end_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with self._changed:
                self._gate = _Gate.ENDED
                self._changed.notify()
            with trio.CancelScope(shield=True):
                await self._until_outside()

    async def _until_outside(self) -> None:
        while self._inside:
            self._left = trio.Event()
            self.thread.kick()
            with trio.move_on_after(KICK_AGAIN_SECONDS):
                await self._left.wait()

    def _body(self, started: Callable[[], None]) -> None:
        self.thread_id = threading.get_native_id()
        self._token.run_sync_soon(started)
        try:
            while self._enter():
                end = self.thread.run()
                if end is not RunEnd.KICKED:
                    self.close_gate()
                    self._on_end(self.thread, end)
        finally:
            self._leave()

    def _enter(self) -> bool:
        """Wait outside until the gate opens; False when the thread is to end."""
        with self._changed:
            if self._gate is not _Gate.OPEN:
                self._leave()
            self._changed.wait_for(lambda: self._gate is not _Gate.CLOSED)
            self._inside = self._gate is _Gate.OPEN
            return self._inside

    def _leave(self) -> None:
        self._inside = False
        self._token.run_sync_soon(self._say_left)

    def _say_left(self) -> None:
        self._left.set()

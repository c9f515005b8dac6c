"""The machine's branch of the tree: vCPU threads, device and backend tasks, guest requests.

The law: cancelling the scope that runs :meth:`MachineTree.run` tears the machine down, and an exception
in any of its tasks does the same; either way no thread is left in guest code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import trio

from stratovirt.accel.protocol import RunEnd, VcpuThread
from stratovirt.errors import SnapshotError
from stratovirt.machine.events import Cause
from stratovirt.machine.info import VcpuInfo
from stratovirt.machine.microvm import Microvm
from stratovirt.machine.sections import save_board
from stratovirt.nursery.devices import DeviceTask
from stratovirt.nursery.iothreads import IoThread
from stratovirt.nursery.snapshots import Write
from stratovirt.nursery.supervisor import Supervisor
from stratovirt.nursery.vcpu import VcpuRunner

log = logging.getLogger(__name__)

# What a request in hand may still take when the machine ends; a disk that takes longer does not answer.
STUCK_SECONDS = 2.0

Task = Callable[[], Awaitable[None]]


class MachineTree:
    """Runs one board; the supervisor's hand on it.

    :param served_by: the iothreads of those devices that have one, by slot.
    """

    def __init__(self, board: Microvm, supervisor: Supervisor, served_by: Mapping[int, IoThread]) -> None:
        self._board = board
        self._supervisor = supervisor
        self._runners = [VcpuRunner(thread, self._guest_ended) for thread in board.threads]
        self.devices = [
            DeviceTask(transport, served_by.get(index)) for index, transport in enumerate(board.transports)
        ]
        self._ended = trio.Event()
        self._frozen = False
        self._unobeyed = 0  # of the guest's requests; known on trio's thread
        self._token = trio.lowlevel.current_trio_token()
        # Unbounded: a guest's requests are obeyed one by one and each closes the gates first.
        self._send_request, self._requests = trio.open_memory_channel[Cause](math.inf)

    @property
    def runners(self) -> list[VcpuRunner]:
        """One per vCPU thread."""
        return self._runners

    async def run(self, tasks: Sequence[Task], wait_for: Sequence[trio.Event], turn: AsyncExitStack) -> None:
        """Run vCPUs, guest requests and ``tasks`` (consoles, backends) until cancelled or one fails.

        :param wait_for: first connections that the guest's start waits for (``wait=on``).
        :param turn: the supervisor's, given up when the machine is attached or waits.
        """
        self._board.power.connect(self._guest_asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._free_stuck_devices)
            try:
                await self._run(tasks, wait_for, turn)
            finally:
                self._ended.set()

    async def _run(self, tasks: Sequence[Task], wait_for: Sequence[trio.Event], turn: AsyncExitStack) -> None:
        async with self._send_request, trio.open_nursery() as nursery:
            for task in (*tasks, *(device.run for device in self.devices)):
                nursery.start_soon(task)
            for runner in self._runners:
                await nursery.start(runner.run)
            nursery.start_soon(self._obey_requests)
            self._freeze()
            if wait_for:
                await turn.aclose()
            for first_client in wait_for:
                await first_client.wait()
            self._supervisor.attach(self)
            await turn.aclose()

    async def _free_stuck_devices(self) -> None:
        """When all this ends: not at all if a device's thread waits for a host that does not answer."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(STUCK_SECONDS, shield=True) as patience:
                await self._ended.wait()
            if patience.cancelled_caught:
                for device in self.devices:
                    device.transport.device.interrupt()

    async def pause(self) -> None:
        """All vCPUs out of guest code, guest time stopped."""
        for runner in self._runners:
            runner.close_gate()
        for runner in self._runners:
            await runner.pause()
        self._freeze()

    def resume(self) -> None:
        """Let guest time and guest code go on."""
        if self._frozen:
            self._board.accelerator.thaw()
            self._frozen = False
        for runner in self._runners:
            runner.resume()

    async def reset(self) -> None:
        """Board to power-on state, kernel loaded anew; in a thread, for it copies tens of megabytes."""
        await trio.to_thread.run_sync(self._board.reset)

    async def save(self, write: Write) -> None:
        """See :class:`SavableMachine`; what drivers have asked for is done first.

        :raises SnapshotError: the guest is about to be reset or switched off.
        """
        async with AsyncExitStack() as served_by_nobody:
            for device in self.devices:
                await served_by_nobody.enter_async_context(device.drained())
            if self._unobeyed:
                raise SnapshotError("the guest has asked for a reset or for its end, which comes first")
            sections = save_board(self._board)
            await trio.to_thread.run_sync(write, self._board.memory.regions, sections)

    def press_power_button(self) -> bool:
        """Press the ACPI power button, if the guest was told of one."""
        return self._board.press_power_button()

    def vcpus(self) -> list[VcpuInfo]:
        """Each vCPU as it is now."""
        return [
            VcpuInfo(vcpu.index, runner.thread_id, vcpu.halted)
            for runner in self._runners
            for vcpu in runner.thread.vcpus
        ]

    def read_memory(self, gpa: int, length: int) -> bytes:
        """Bytes of guest memory.

        :raises BadAddress: no RAM is there.
        """
        return self._board.memory.read(gpa, length)

    def _freeze(self) -> None:
        if not self._frozen:
            self._board.accelerator.freeze()
            self._frozen = True

    def _guest_asked(self, cause: Cause) -> None:
        """On a vCPU thread: nobody runs guest code until the request has been obeyed."""
        for runner in self._runners:
            runner.close_gate()
        self._token.run_sync_soon(self._take_request, cause)

    def _take_request(self, cause: Cause) -> None:
        self._unobeyed += 1
        self._send_request.send_nowait(cause)

    def _guest_ended(self, thread: VcpuThread, end: RunEnd) -> None:
        if end is RunEnd.TRIPLE_FAULT:
            log.warning("%s: triple fault, the machine resets", thread.name)
            self._guest_asked(Cause.GUEST_RESET)
        else:
            log.warning("%s: %s; only a reset or quit helps", thread.name, end.value)

    async def _obey_requests(self) -> None:
        async for cause in self._requests:
            await self._supervisor.obey_guest(cause)
            self._unobeyed -= 1

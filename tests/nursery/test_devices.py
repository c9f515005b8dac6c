"""A device is served on its own thread or on trio's, and by nobody while it is quiesced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import trio
import trio.testing

from stratovirt.chardev.wakeup import Wakeup
from stratovirt.devices.virtio import mmio
from stratovirt.devices.virtio.constants import USED_BUFFER
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue
from stratovirt.nursery.devices import DeviceTask
from tests.device.fakes import FakeIrq
from tests.device.virtio import DriverRig, driving

WITHIN = 30  # seconds


class Echo(VirtioDevice):
    """Echoes; tells which thread did it, and may be held while it does."""

    device_id = 42
    queue_sizes = (64,)

    def __init__(self, blocks: bool) -> None:
        self.blocks = blocks
        self.threads: list[int] = []
        self.served = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    @property
    def blocking(self) -> bool:
        return self.blocks

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        self.threads.append(threading.get_ident())
        self.served.set()
        assert self.gate.wait(WITHIN)
        if self.failure is not None:
            raise self.failure
        return chain.write(chain.read())


class WakingIrq(FakeIrq):
    """Wakes the test at each interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.rose = Wakeup()

    def set_level(self, level: bool) -> None:
        super().set_level(level)
        if level:
            self.rose.set()


@contextmanager
def served_by_tasks(blocks: bool) -> Iterator[DriverRig]:
    irq = WakingIrq()
    with closing(irq.rose), driving(Echo(blocks), irq=irq) as rig:
        rig.transport.detach(rig.reactor)
        try:
            yield rig
        finally:
            rig.transport.attach(rig.reactor)


@pytest.fixture(params=[False, True], ids=["trio", "thread"])
def echo(request: pytest.FixtureRequest) -> Iterator[DriverRig]:
    with served_by_tasks(request.param) as rig:
        yield rig


def device(rig: DriverRig) -> Echo:
    assert isinstance(rig.device, Echo)
    return rig.device


async def until_used(rig: DriverRig) -> bytes:
    assert isinstance(rig.irq, WakingIrq)
    with trio.fail_after(WITHIN):
        while True:
            rig.write(mmio.INTERRUPT_ACK, USED_BUFFER)
            if used := rig.queue(0).collect():
                return used[0].data
            await rig.irq.rose.wait()


async def test_a_device_is_served_on_the_thread_that_it_wants(echo: DriverRig) -> None:
    echo.negotiate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DeviceTask(echo.transport).run)
        echo.queue(0).offer([b"hello"], [5])
        assert await until_used(echo) == b"hello"
        nursery.cancel_scope.cancel()
    here = threading.get_ident()
    assert [thread != here for thread in device(echo).threads] == [device(echo).blocking]


async def test_nobody_serves_a_quiesced_device_and_its_kicks_are_obeyed_afterwards(echo: DriverRig) -> None:
    echo.negotiate()
    task = DeviceTask(echo.transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        for _ in range(3):
            async with task.quiesced():
                echo.queue(0).offer([b"later"], [5])
                await trio.testing.wait_all_tasks_blocked()
                assert echo.queue(0).collect() == []
            assert await until_used(echo) == b"later"
        nursery.cancel_scope.cancel()


async def test_two_that_quiesce_take_turns(echo: DriverRig) -> None:
    task = DeviceTask(echo.transport)
    inside: list[int] = []

    async def quiesce(number: int) -> None:
        async with task.quiesced():
            inside.append(number)
            await trio.testing.wait_all_tasks_blocked()
            assert inside[-1] == number

    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run)
            async with trio.open_nursery() as quiescers:
                for number in range(3):
                    quiescers.start_soon(quiesce, number)
            nursery.cancel_scope.cancel()
    assert sorted(inside) == [0, 1, 2]


async def test_who_gives_up_quiescing_a_busy_device_leaves_it_working() -> None:
    with served_by_tasks(True) as rig:
        rig.negotiate()
        device(rig).gate.clear()
        task = DeviceTask(rig.transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run)
            rig.queue(0).offer([b"slow"], [4])
            await trio.to_thread.run_sync(device(rig).served.wait, WITHIN)
            with trio.move_on_after(0.01) as gave_up:
                async with task.quiesced():
                    pass
            assert gave_up.cancelled_caught
            device(rig).gate.set()
            assert await until_used(rig) == b"slow"
            rig.queue(0).offer([b"on"], [2])
            assert await until_used(rig) == b"on"
            nursery.cancel_scope.cancel()


async def test_an_exception_in_a_device_comes_out_of_its_task(echo: DriverRig) -> None:
    echo.negotiate()
    device(echo).failure = LookupError("injected")
    echo.queue(0).offer([b"x"], [1])
    with trio.fail_after(WITHIN), pytest.RaisesGroup(pytest.RaisesExc(LookupError), flatten_subgroups=True):
        await DeviceTask(echo.transport).run()

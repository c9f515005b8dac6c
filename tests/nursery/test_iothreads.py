"""An iothread serves several devices on its one thread, which comes and goes with them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from stratovirt.nursery.devices import DeviceTask
from stratovirt.nursery.iothreads import IoThread
from tests.device.virtio import DriverRig
from tests.nursery.test_devices import WITHIN, device, served_by_tasks, until_used


@asynccontextmanager
async def shared() -> AsyncIterator[tuple[IoThread, list[DriverRig], list[DeviceTask]]]:
    """Two devices served by one iothread."""
    iothread = IoThread("io0")
    try:
        with served_by_tasks(True) as one, served_by_tasks(True) as two:
            rigs = [one, two]
            tasks = [DeviceTask(rig.transport, iothread) for rig in rigs]
            for rig in rigs:
                rig.negotiate()
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task.run)
                nursery.start_soon(iothread.run)
                yield iothread, rigs, tasks
                nursery.cancel_scope.cancel()
    finally:
        iothread.close()


async def test_devices_share_the_thread_and_its_name() -> None:
    async with shared() as (iothread, rigs, _):
        for rig in rigs:
            rig.queue(0).offer([b"hello"], [5])
            assert await until_used(rig) == b"hello"
        threads = {thread for rig in rigs for thread in device(rig).threads}
        assert len(threads) == 1
        assert threads != {threading.get_ident()}
        assert iothread.thread_id in {thread.native_id for thread in threading.enumerate()}
    assert iothread.thread_id is None


async def test_one_device_is_quiesced_while_the_other_is_served() -> None:
    async with shared() as (_, (one, two), (task, _other)):
        for _ in range(3):
            async with task.quiesced():
                one.queue(0).offer([b"later"], [5])
                two.queue(0).offer([b"now"], [3])
                assert await until_used(two) == b"now"
                assert one.queue(0).collect() == []
            assert await until_used(one) == b"later"


async def test_a_drained_device_has_done_all_that_was_asked_of_it() -> None:
    async with shared() as (_, (one, _two), (task, _other)):
        gate = device(one).gate
        gate.clear()
        one.queue(0).offer([b"first"], [5])
        await trio.to_thread.run_sync(device(one).served.wait, WITHIN)
        one.queue(0).offer([b"second"], [6])

        async def open_gate() -> None:
            await trio.testing.wait_all_tasks_blocked()
            gate.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_gate)
            async with task.drained():
                assert [used.data for used in one.queue(0).collect()] == [b"first", b"second"]


async def test_an_exception_in_a_device_comes_out_of_the_threads_task() -> None:
    with trio.fail_after(WITHIN), pytest.RaisesGroup(pytest.RaisesExc(LookupError), flatten_subgroups=True):
        async with shared() as (_, (one, _two), _tasks):
            device(one).failure = LookupError("injected")
            one.queue(0).offer([b"x"], [1])
            await trio.sleep_forever()


async def test_an_error_of_a_call_is_its_callers() -> None:
    def fail() -> None:
        raise OSError("no fds are left")

    async with shared() as (iothread, (one, _two), _tasks):
        with pytest.raises(OSError, match="no fds"):
            await iothread.call(fail)
        one.queue(0).offer([b"on"], [2])
        assert await until_used(one) == b"on"

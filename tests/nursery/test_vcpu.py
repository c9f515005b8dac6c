"""A supervised vCPU thread is inside guest code only while its gate is open, and always ends."""

from __future__ import annotations

import pytest
import trio

from stratovirt.accel.protocol import RunEnd, VcpuThread
from stratovirt.errors import AcceleratorError
from stratovirt.nursery.vcpu import VcpuRunner
from tests.nursery.fakes import FakeVcpuThread

DEADLINE_SECONDS = 10


def runner_of(thread: FakeVcpuThread) -> VcpuRunner:
    return VcpuRunner(thread, lambda _thread, _end: None)


async def inside(thread: FakeVcpuThread) -> None:
    await trio.to_thread.run_sync(thread.wait_inside)


async def test_a_new_thread_waits_outside_until_it_is_resumed() -> None:
    thread = FakeVcpuThread()
    runner = runner_of(thread)
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            assert thread.entered == 0
            runner.resume()
            await inside(thread)
            nursery.cancel_scope.cancel()
    assert not thread.inside


async def test_pause_returns_with_the_thread_outside_and_resume_lets_it_in_again() -> None:
    thread = FakeVcpuThread()
    runner = runner_of(thread)
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            for _ in range(100):
                runner.resume()
                await inside(thread)
                await runner.pause()
                assert not thread.inside
            nursery.cancel_scope.cancel()


async def test_the_thread_keeps_its_id_over_pauses() -> None:
    thread = FakeVcpuThread()
    runner = runner_of(thread)
    seen = set()
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            for _ in range(3):
                runner.resume()
                await inside(thread)
                seen.add(runner.thread_id)
                await runner.pause()
            nursery.cancel_scope.cancel()
    assert len(seen) == 1


async def test_pausing_a_paused_thread_returns_at_once() -> None:
    thread = FakeVcpuThread()
    runner = runner_of(thread)
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            await runner.pause()
            await runner.pause()
            nursery.cancel_scope.cancel()


async def test_guest_code_that_ends_by_itself_is_reported_with_the_gate_closed() -> None:
    thread = FakeVcpuThread()
    ends: list[tuple[str, RunEnd]] = []
    told = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def on_end(ended: VcpuThread, end: RunEnd) -> None:
        ends.append((ended.name, end))
        token.run_sync_soon(told.set)

    runner = VcpuRunner(thread, on_end)
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            runner.resume()
            await inside(thread)
            thread.end_with(RunEnd.TRIPLE_FAULT)
            await told.wait()
            assert thread.entered == 1
            nursery.cancel_scope.cancel()
    assert ends == [("vcpu-0", RunEnd.TRIPLE_FAULT)]


async def test_a_failing_vcpu_fails_the_runner_with_its_own_error() -> None:
    thread = FakeVcpuThread()
    runner = runner_of(thread)
    error = AcceleratorError("emulation failed")
    with trio.fail_after(DEADLINE_SECONDS), pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            runner.resume()
            await inside(thread)
            thread.end_with(error)
    assert caught.group_contains(AcceleratorError, match="emulation failed")


async def test_cancelling_ends_a_thread_that_is_inside_and_one_that_waits() -> None:
    busy, waiting = FakeVcpuThread("vcpu-0"), FakeVcpuThread("vcpu-1")
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            runners = [runner_of(busy), runner_of(waiting)]
            for runner in runners:
                await nursery.start(runner.run)
            runners[0].resume()
            await inside(busy)
            nursery.cancel_scope.cancel()
    assert (busy.inside, waiting.entered) == (False, 0)

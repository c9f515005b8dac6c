"""A guest with a head start: what it did before the tree was there is as if it had done it afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from stratovirt.chardev.port import OUTPUT_LIMIT
from stratovirt.chardev.sinks import RingBuffer
from stratovirt.devices.rtc import Rtc
from stratovirt.errors import AcceleratorError
from stratovirt.machine.microvm import Microvm
from stratovirt.nursery.headstart import HeadStart
from tests.nursery.test_run import (
    POWERS_OFF,
    PRINTS_FOR_EVER,
    SETS_THE_CLOCK,
    TRIPLE_FAULTS,
    connected,
    crashed,
    reason_of,
    running,
)

SECONDS = 20.0
JUMP_TO_NEXT = b"\xeb\x00"
Take = Callable[[Microvm], Microvm]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def to_its_end(executor: ThreadPoolExecutor) -> Take:
    """Takes a board whose head start has ended by itself."""

    def take(board: Microvm) -> Microvm:
        start = HeadStart(board.threads[0], board.power, executor)
        assert start._first is not None
        start._first.exception(SECONDS)
        start.stop()
        board.threads[0] = start
        return board

    return take


async def test_a_guest_that_powered_off_meanwhile_is_off(tmp_path: Path, to_its_end: Take) -> None:
    async with running(tmp_path, POWERS_OFF, take=to_its_end) as vm, connected(vm.monitor) as qmp:
        assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert vm.exit_code == 0


async def test_a_guest_that_asked_for_its_end_does_not_run_on(tmp_path: Path, to_its_end: Take) -> None:
    """Behind the power-off it would print."""
    console = RingBuffer("console")
    code = POWERS_OFF[:-4] + JUMP_TO_NEXT + PRINTS_FOR_EVER  # a block of code is run to its end
    async with (
        running(tmp_path, code, console, take=to_its_end, shutdown=False) as vm,
        connected(vm.monitor) as qmp,
    ):
        while (await qmp.execute("query-status"))["status"] != "shutdown":  # noqa: ASYNC110
            await trio.sleep(0.01)
        await qmp.execute("quit")
    assert console.read(1) == b""


async def test_a_triple_fault_meanwhile_is_a_reset(tmp_path: Path, to_its_end: Take) -> None:
    async with (
        running(tmp_path, TRIPLE_FAULTS, take=to_its_end, reboot=False) as vm,
        connected(vm.monitor) as qmp,
    ):
        assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": True, "reason": "guest-reset"}
    assert vm.exit_code == 0


async def test_a_failure_meanwhile_is_a_crash_that_clients_can_ask_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_its_end: Take
) -> None:
    def explode(_rtc: Rtc, _offset: int, _size: int, _value: int) -> None:
        raise AcceleratorError("injected into the head start")

    monkeypatch.setattr(Rtc, "pio_write", explode)
    async with running(tmp_path, SETS_THE_CLOCK, take=to_its_end) as vm, connected(vm.monitor) as qmp:
        await crashed(qmp)
        assert "injected into the head start" in await reason_of(qmp)
        await qmp.execute("quit")
    assert vm.exit_code == 2


async def test_a_running_guest_is_taken_over_and_nothing_it_said_is_lost(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    """It prints the numbers 0 to 255 over and over, more than the line holds before there is a reader."""
    busy = threading.Event()

    def until_the_line_is_full(board: Microvm) -> Microvm:
        port.expect_reader()
        start = HeadStart(board.threads[0], board.power, executor)
        while port.line.unsent() < OUTPUT_LIMIT:
            busy.wait(0.001)
        start.stop()
        board.threads[0] = start
        return board

    console = RingBuffer("console", 1 << 20)
    ready = bytes.fromhex("66bafd03 ec a820 74fb")  # mov dx, LSR; l: in al, dx; test al, THRE; jz l
    code = ready + bytes.fromhex("66baf803 88c8 ee fec1 ebec")  # mov dx, THR; mov al, cl; out; inc cl; again
    async with running(tmp_path, code, console, take=until_the_line_is_full) as vm:
        port = vm.port
        while len(console._kept) < 2 * OUTPUT_LIMIT:  # noqa: ASYNC110
            await trio.sleep(0.01)
        async with connected(vm.monitor) as qmp:
            await qmp.execute("quit")
    printed = bytes(console._kept)
    first = printed[0]
    assert printed == bytes((first + i) & 0xFF for i in range(len(printed)))

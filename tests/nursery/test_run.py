"""One whole run in this process: whatever breaks, QMP can say so, and nothing is left at the end."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratovirt.accel.choose import Choice, load
from stratovirt.boot.plan import BootRequest, plan
from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev, Handler
from stratovirt.chardev.sinks import RingBuffer
from stratovirt.chardev.unix import UnixServer
from stratovirt.devices.rtc import Rtc
from stratovirt.errors import AcceleratorError
from stratovirt.machine.microvm import Microvm
from stratovirt.nursery.monitors import Monitor
from stratovirt.nursery.run import Launch, run
from stratovirt.qmp.flow import Throttle
from tests.system.qmp import Qmp, QmpError, connected

SECONDS = 30
# Here, not in the thread that builds the board: pytest parses what is imported, and CPython 3.11 cannot
# parse in two threads at once (gh-106905: "AST constructor recursion depth mismatch").
load(Choice("tcg", "a test"), 1)
# mov dx, 0x3f8; mov al, 'A'; out dx, al; pause; jmp back to the out
PRINTS_FOR_EVER = bytes.fromhex("66baf803 b041 ee f390 ebfb")
# al to the clock's index port, 0x70; pause; jmp to the out
SETS_THE_CLOCK = bytes.fromhex("e670 f390 ebfa")
# lidt with an empty table, then int3: a triple fault
TRIPLE_FAULTS = bytes.fromhex("0f011c2500000000 cc")
# mov ecx, 2^27; loop; then a triple fault: a moment in which the test takes the kernel away
RESETS_LATER = bytes.fromhex("b900000008 e2fe") + TRIPLE_FAULTS
# mov dx, 0x600; mov al, 0x34; out dx, al; pause; jmp to the pause
POWERS_OFF = bytes.fromhex("66ba0006 b034 ee f390 ebfc")


class FailingChardev(RingBuffer):
    """A console whose backend breaks when told."""

    def __init__(self) -> None:
        super().__init__("console")
        self.broken = trio.Event()

    async def serve(self, handler: Handler, *, clients: int | None = None) -> None:
        await self.broken.wait()
        raise OSError("the backend broke")


class Running:
    """A run under test."""

    def __init__(self, monitor: Path, port: BytePort) -> None:
        self.monitor = monitor
        self.port = port
        self.exit_code: int | None = None


def build(request: BootRequest, port: BytePort) -> Microvm:
    board = Microvm(Choice("tcg", "a test"), plan(request))
    board.add_console(port)
    board.boot()
    return board


@asynccontextmanager
async def running(
    directory: Path,
    code: bytes,
    console: Chardev | None = None,
    *,
    shared: bool = False,
    reboot: bool = True,
    shutdown: bool = True,
    take: Callable[[Microvm], Microvm] = lambda board: board,
) -> AsyncIterator[Running]:
    """A machine whose kernel is ``code``; the block has to end it.

    :param take: what is done with the board, in a thread, before the tree has it.
    """
    kernel = directory / "kernel"
    kernel.write_bytes(code + bytes(64))
    request = BootRequest(str(kernel), None, "", 128 << 20)
    socket = UnixServer("qmp", str(directory / "qmp.sock"))
    socket.open()
    port = BytePort()
    running = Running(directory / "qmp.sock", port)
    launch = Launch(
        take_board=lambda: take(build(request, port)),
        port=port,
        console=console,
        terminal=console if shared else None,
        monitors=[Monitor(socket, Throttle.DELAY)],
        wait_for=[],
        ready=lambda: None,
        freeze=False,
        reboot=reboot,
        shutdown=shutdown,
    )

    async def to_its_end() -> None:
        running.exit_code = await run(launch)

    try:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(to_its_end)
                yield running
    finally:
        socket.close()
        port.close()


async def crashed(qmp: Qmp) -> None:
    """Wait for the crash; it may have come before the client."""
    if (await qmp.execute("query-status"))["status"] == "running":
        await qmp.wait_event("STOP")


async def stopped_and_resumed(qmp: Qmp) -> None:
    """From here on the machine is built for certain, and its guest runs."""
    await qmp.execute("stop")
    await qmp.execute("cont")


async def reason_of(qmp: Qmp) -> str:
    """Why the machine is in internal-error, as a client learns it."""
    assert await qmp.execute("query-status") == {
        "running": False,
        "singlestep": False,
        "status": "internal-error",
    }
    with pytest.raises(QmpError) as refusal:
        await qmp.execute("cont")
    return str(refusal.value)


async def test_a_running_machine_quits_with_0(tmp_path: Path) -> None:
    async with running(tmp_path, PRINTS_FOR_EVER) as vm, connected(vm.monitor) as qmp:
        assert (await qmp.execute("query-status"))["status"] == "running"
        await qmp.execute("quit")
    assert vm.exit_code == 0


async def test_an_exception_in_a_vcpu_thread_is_a_state_that_clients_can_ask_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(_rtc: Rtc, _offset: int, _size: int, _value: int) -> None:
        raise AcceleratorError("injected into the vCPU thread")

    monkeypatch.setattr(Rtc, "pio_write", explode)
    async with running(tmp_path, SETS_THE_CLOCK) as vm, connected(vm.monitor) as qmp:
        await crashed(qmp)
        assert "injected into the vCPU thread" in await reason_of(qmp)
        async with connected(vm.monitor) as late:
            assert "injected" in await reason_of(late)
        await qmp.execute("quit")
        assert (await qmp.wait_event("SHUTDOWN"))["data"]["reason"] == "host-qmp-quit"
    assert vm.exit_code == 2


async def test_an_exception_in_a_console_task_is_a_state_that_clients_can_ask_about(tmp_path: Path) -> None:
    console = FailingChardev()
    async with running(tmp_path, PRINTS_FOR_EVER, console) as vm, connected(vm.monitor) as qmp:
        console.broken.set()
        await crashed(qmp)
        assert "OSError('the backend broke')" in await reason_of(qmp)
        await qmp.execute("quit")
    assert vm.exit_code == 2


async def test_a_triple_fault_resets_the_machine(tmp_path: Path) -> None:
    async with running(tmp_path, TRIPLE_FAULTS) as vm, connected(vm.monitor) as qmp:
        for _ in range(3):
            assert (await qmp.wait_event("RESET"))["data"] == {"guest": True, "reason": "guest-reset"}
        await qmp.execute("quit")
    assert vm.exit_code == 0


async def test_a_triple_fault_ends_the_run_without_reboot(tmp_path: Path) -> None:
    async with running(tmp_path, TRIPLE_FAULTS, reboot=False) as vm:
        pass
    assert vm.exit_code == 0


async def test_a_power_off_ends_the_run(tmp_path: Path) -> None:
    async with running(tmp_path, POWERS_OFF) as vm:
        pass
    assert vm.exit_code == 0


async def test_the_last_console_output_is_written_before_the_end(tmp_path: Path) -> None:
    console = RingBuffer("console")
    text = b"last words"
    writes = b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in text)
    async with running(tmp_path, bytes.fromhex("66baf803") + writes + POWERS_OFF, console) as vm:
        pass
    assert vm.exit_code == 0
    assert console.read(100) == text


async def test_a_reset_under_way_is_finished_before_its_board_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    reset = Microvm.reset

    def slow_reset(board: Microvm) -> None:
        began.set()
        may_go_on.wait(SECONDS)
        reset(board)

    monkeypatch.setattr(Microvm, "reset", slow_reset)
    async with (
        running(tmp_path, PRINTS_FOR_EVER) as vm,
        connected(vm.monitor) as resetting,
        connected(vm.monitor) as quitting,
    ):
        await stopped_and_resumed(resetting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resetting.execute, "system_reset")
            await trio.to_thread.run_sync(began.wait, SECONDS)
            await quitting.execute("quit")
            may_go_on.set()
    assert vm.exit_code == 0


async def test_a_reset_whose_kernel_has_gone_is_refused_and_the_guest_runs_on(tmp_path: Path) -> None:
    async with running(tmp_path, PRINTS_FOR_EVER) as vm, connected(vm.monitor) as qmp:
        await stopped_and_resumed(qmp)
        (tmp_path / "kernel").unlink()
        with pytest.raises(QmpError, match=r"system_reset: .*kernel: No such file"):
            await qmp.execute("system_reset")
        assert (await qmp.execute("query-status"))["status"] == "running"
        await qmp.execute("stop")
        await qmp.execute("quit")
    assert vm.exit_code == 0


async def test_a_guests_reset_whose_kernel_has_gone_is_a_crash_that_names_it(tmp_path: Path) -> None:
    async with running(tmp_path, RESETS_LATER) as vm, connected(vm.monitor) as qmp:
        await qmp.execute("stop")
        (tmp_path / "kernel").unlink()
        await qmp.execute("cont")
        await qmp.wait_event("RESUME")
        await crashed(qmp)
        assert "kernel: No such file" in await reason_of(qmp)
        await qmp.execute("quit")
    assert vm.exit_code == 2


async def test_an_initrd_that_cannot_be_used_is_a_refused_start(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(POWERS_OFF)
    request = BootRequest(str(kernel), str(tmp_path / "missing"), "", 128 << 20)
    ready: list[bool] = []
    port = BytePort()
    launch = Launch(
        lambda: build(request, port),
        port,
        None,
        [],
        [],
        lambda: ready.append(True),
        freeze=False,
        reboot=True,
        shutdown=True,
    )
    with trio.fail_after(SECONDS):
        assert await run(launch) == 1
    port.close()
    assert ready == []

"""A guest's life as QMP clients and signals steer it: the right event, exit code and clean-up for each."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from stratovirt.testing import GuestConsole
from tests.system.qmp import QmpError
from tests.system.vm import Vm, started

Options = Callable[..., list[str]]


async def next_tick(console: GuestConsole) -> float:
    """The guest's uptime, in seconds, as it prints it next."""
    await console.expect(b"TICK ")
    return float(await console.expect(b"\n"))


def assert_nothing_left(vm: Vm) -> None:
    assert sorted(path.name for path in vm.directory.glob("*.sock")) == []
    assert "Traceback" not in (vm.directory / "stderr.txt").read_text()


async def test_stop_freezes_the_guest_and_its_time_and_cont_resumes_both(
    guest: Options, tmp_path: Path
) -> None:
    async with started(*guest("ticks"), directory=tmp_path) as vm, vm.console() as console, vm.qmp() as qmp:
        await next_tick(console)
        for _ in range(3):
            await qmp.execute("stop")
            assert (await qmp.execute("query-status"))["status"] == "paused"
            await console.silent(seconds=0.3)  # what was on its way when it stopped
            before = [float(tick) for tick in re.findall(rb"TICK ([\d.]+)\r\n", bytes(console.text))][-1]
            assert await console.silent(seconds=1.5)
            await qmp.execute("cont")
            console.skip()
            after = await next_tick(console)
            assert after - before < 1.0, "guest time stood still for the 1.8 s of the pause"
        assert b"clocksource" not in console.text[console.text.find(b"GUEST-UP") :]


async def test_stop_and_cont_tell_every_client_before_they_reply(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("ticks"), directory=tmp_path) as vm, vm.qmp() as qmp, vm.qmp() as other:
        await qmp.execute("stop")
        await qmp.execute("cont")
        assert [event["event"] for event in qmp.events] == ["STOP", "RESUME"]
        for name in ("STOP", "RESUME"):
            await other.wait_event(name)


async def test_quit_ends_an_orderly_run(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("ticks"), directory=tmp_path) as vm:
        async with vm.qmp() as qmp:
            await qmp.execute("quit")
            assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": False, "reason": "host-qmp-quit"}
        assert await vm.exit_code() == 0
        assert_nothing_left(vm)


async def test_quit_works_while_paused(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("ticks", "-S"), directory=tmp_path) as vm:
        async with vm.qmp() as qmp:
            assert (await qmp.execute("query-status"))["status"] == "prelaunch"
            await qmp.execute("quit")
            await qmp.wait_event("SHUTDOWN")
        assert await vm.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_orderly_run(guest: Options, tmp_path: Path, number: signal.Signals) -> None:
    async with started(*guest("ticks"), directory=tmp_path) as vm:
        async with vm.console() as console, vm.qmp() as qmp:
            await console.expect(b"GUEST-UP")
            vm.process.send_signal(number)
            assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": False, "reason": "host-signal"}
        assert await vm.exit_code() == 0
        assert_nothing_left(vm)


async def test_a_frozen_machine_starts_with_cont(guest: Options, tmp_path: Path) -> None:
    async with (
        started(*guest("up", "-S"), directory=tmp_path) as vm,
        vm.console() as console,
        vm.qmp() as qmp,
    ):
        assert await console.silent(seconds=1)
        await qmp.execute("cont")
        await console.expect(b"GUEST-UP")
        assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": True, "reason": "guest-shutdown"}
        assert await vm.exit_code() == 0


async def test_a_guests_reboot_resets_the_machine_for_real(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("reboot"), directory=tmp_path) as vm, vm.console() as console, vm.qmp() as qmp:
        for _ in range(3):
            await console.expect(b"GUEST-UP")
            assert (await qmp.wait_event("RESET"))["data"] == {"guest": True, "reason": "guest-reset"}
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def test_a_panic_with_reboot_resets_the_machine(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("panic"), directory=tmp_path) as vm, vm.console() as console, vm.qmp() as qmp:
        await console.expect(b"Kernel panic")
        assert (await qmp.wait_event("RESET"))["data"]["reason"] == "guest-reset"
        await console.expect(b"GUEST-UP")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def test_no_reboot_turns_a_reset_into_the_end(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("reboot", "-no-reboot"), directory=tmp_path) as vm, vm.qmp() as qmp:
        assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": True, "reason": "guest-reset"}
        assert await vm.exit_code() == 0


async def test_no_shutdown_keeps_the_process_after_power_off(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("up", "-no-shutdown"), directory=tmp_path) as vm, vm.qmp() as qmp:
        assert (await qmp.wait_event("SHUTDOWN"))["data"] == {"guest": True, "reason": "guest-shutdown"}
        assert await qmp.execute("query-status") == {
            "running": False,
            "singlestep": False,
            "status": "shutdown",
        }
        with pytest.raises(QmpError, match="shutdown"):
            await qmp.execute("cont")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def test_system_reset_boots_anew(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("ticks"), directory=tmp_path) as vm, vm.console() as console, vm.qmp() as qmp:
        await next_tick(console)
        await qmp.execute("system_reset")
        assert (await qmp.wait_event("RESET"))["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        await console.expect(b"GUEST-UP")
        assert await next_tick(console) < 60
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def test_the_power_button_reaches_the_guest(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("button"), directory=tmp_path) as vm, vm.console() as console, vm.qmp() as qmp:
        await console.expect(b"BUTTON-READY")
        await qmp.execute("system_powerdown")
        assert [event["event"] for event in qmp.events] == ["POWERDOWN"]
        await console.expect(b"BUTTON-OK")
        assert await vm.exit_code() == 0


async def test_the_console_takes_what_is_typed(guest: Options, tmp_path: Path) -> None:
    async with started(*guest("shell"), directory=tmp_path) as vm, vm.console() as console:
        await console.expect(b"GUEST-UP")
        await console.expect(b"# ")
        await console.type("echo $((6 * 7)) is the answer")
        await console.expect(b"42 is the answer")
        await console.type("poweroff -f")
        assert await vm.exit_code() == 0

"""A person manages a machine from the terminal that it runs on, or over a socket."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trio

from stratovirt.testing import GuestConsole, open_socket
from tests.system.terminal import at_terminal
from tests.system.vm import END_SECONDS, command, started

PROMPT = b"(stratovirt) "
BANNER = b"monitor - type 'help' for more information\r\n"
SWITCH = b"\x01c"
# mov dx, 0x3f8; mov al, 'A'; out dx, al; pause; jmp back to the out
PRINTS_FOR_EVER = bytes.fromhex("66baf803 b041 ee f390 ebfb")


def on_socket(directory: Path) -> list[str]:
    """Options for a machine without guest, with a human monitor and a QMP monitor."""
    chardev = f"socket,id=hmp,path={directory}/hmp.sock,server,nowait"
    qmp = f"unix:{directory}/qmp.sock,server,nowait"
    return ["-machine", "none", "-chardev", chardev, "-mon", "chardev=hmp,mode=readline", "-qmp", qmp]


async def test_a_person_switches_between_the_guests_shell_and_the_monitor(
    cloud_kernel: Path, cloud_initrd: Path, tmp_path: Path
) -> None:
    options = ["-machine", "microvm,accel=tcg", "-kernel", str(cloud_kernel), "-initrd", str(cloud_initrd)]
    append = ["-append", "console=ttyS0 panic=-1 quiet t=shell"]
    async with at_terminal(*options, *append, "-serial", "stdio", directory=tmp_path) as person:
        screen = person.screen
        await screen.expect(b"# ")
        await person.press(b"echo $((6*7))\r")
        await screen.expect(b"\n42\r")

        await person.press(SWITCH)
        await screen.expect(BANNER.rstrip())
        await screen.expect(PROMPT)
        await person.press(b"info status\r")
        await screen.expect(b"VM status: running\r")
        await person.press(b"stop\rinfo status\r")
        await screen.expect(b"VM status: paused\r")
        await person.press(SWITCH + b"echo $((6*8))\r")
        await person.press(SWITCH + b"cont\r")
        await screen.expect(b"\n48\r")

        await person.press(SWITCH + b"echo $((6*9))\r")
        await screen.expect(b"\n54\r")
        await person.press(SWITCH)
        await screen.expect(PROMPT)
        await person.press(b"quit\r")
        assert await person.exit_code() == 0


async def test_guest_output_goes_on_while_a_person_is_in_the_monitor(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(PRINTS_FOR_EVER + bytes(64))
    options = ["-machine", "microvm,accel=tcg", "-kernel", str(kernel), "-serial", "mon:stdio"]
    async with at_terminal(*options, directory=tmp_path) as person:
        await person.screen.expect(b"AAA")
        await person.press(SWITCH)
        await person.screen.expect(PROMPT)
        await person.screen.expect(b"AAA")
        await person.press(b"stop\r")
        with trio.fail_after(END_SECONDS):
            while not await person.screen.silent(seconds=0.3):
                pass  # what it has printed before
        person.screen.skip()
        await person.press(b"cont\r")
        await person.screen.expect(b"AAA")
        await person.press(b"\x01x")
        assert await person.exit_code() == 0


def test_scripts_can_use_mon_stdio_through_pipes() -> None:
    lines = b"\x01cinfo status\nstop\ninfo status\nquit\n"
    done = subprocess.run(
        command("-machine", "none", "-serial", "mon:stdio"),
        input=lines,
        capture_output=True,
        timeout=END_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert BANNER in done.stdout
    shown = done.stdout.partition(BANNER)[2].replace(PROMPT, b"")
    assert shown == b"VM status: running\r\nVM status: paused\r\n"


async def test_people_on_a_socket_see_what_others_and_programs_do(tmp_path: Path) -> None:
    async with (
        started(*on_socket(tmp_path), directory=tmp_path) as vm,
        vm.console("hmp") as one,
        vm.console("hmp") as two,
        vm.qmp() as qmp,
    ):
        for person in (one, two):
            await person.expect(BANNER + PROMPT)
        await one.type("stop")
        await one.expect(PROMPT)
        assert (await qmp.wait_event("STOP"))["data"] == {}
        await two.type("info status")
        await two.expect(b"VM status: paused\r\n")
        await one.type("stop")
        await one.expect(b"Error: stop: the machine is in state paused")
        await two.type("quit")
        assert (await qmp.wait_event("SHUTDOWN"))["data"]["reason"] == "host-qmp-quit"
        assert await vm.exit_code() == 0
    assert not (tmp_path / "hmp.sock").exists()


async def test_a_line_piped_into_the_socket_is_answered_before_the_end(tmp_path: Path) -> None:
    async with started(*on_socket(tmp_path), directory=tmp_path) as vm:
        stream = await open_socket(tmp_path / "hmp.sock")
        async with stream:
            await stream.send_all(b"info status\n")
            await stream.send_eof()
            console = GuestConsole(stream)
            await console.expect(b"VM status: running\r\n" + PROMPT)
            with trio.fail_after(END_SECONDS):
                assert await stream.receive_some() == b""
        async with vm.qmp() as qmp:
            await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def test_human_monitor_command_takes_the_same_lines(tmp_path: Path) -> None:
    async with started(*on_socket(tmp_path), directory=tmp_path) as vm, vm.qmp() as qmp:

        async def hmp(line: str) -> str:
            text: str = await qmp.execute("human-monitor-command", **{"command-line": line})
            return text

        assert await hmp("info status") == "VM status: running\r\n"
        assert await hmp("stop") == ""
        assert [event["event"] for event in qmp.events] == ["STOP"]
        assert (await hmp("stop")).startswith("Error: stop: the machine is in state paused")
        assert await hmp("frob") == "unknown command: 'frob'\r\n"
        assert await hmp("quit") == ""
        assert (await qmp.wait_event("SHUTDOWN"))["data"]["reason"] == "host-qmp-quit"
        assert await vm.exit_code() == 0

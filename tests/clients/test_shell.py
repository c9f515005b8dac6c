"""``stratovirt-qmp`` as its user has it: a process, on a terminal or in a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from stratovirt.client import connect_unix
from stratovirt.machine.control import RunState
from stratovirt.machine.events import Cause, WasReset
from tests.clients.servers import listening, qemu
from tests.clients.terminal import SHELL, on_terminal
from tests.protocol.fakes import FakeControl


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp.sock"


@pytest.fixture
async def control(path: Path) -> AsyncIterator[FakeControl]:
    async with listening(path) as control:
        yield control


async def script(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one run."""
    words = [*SHELL, *map(str, arguments)]
    done = await trio.run_process(words, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_one_command_prints_its_result(control: FakeControl, path: Path) -> None:
    status = "running     true\nsinglestep  false\nstatus      running\n"
    assert await script(path, "query-status") == (0, status, "")
    assert await script(f"unix:{path}", "stop") == (0, "", "")
    assert control.state is RunState.PAUSED
    code, out, _ = await script("--json", path, "query-status")
    assert (code, json.loads(out)["status"]) == (0, "paused")


async def test_a_refusal_is_one_line_and_exit_status_1(control: FakeControl, path: Path) -> None:
    code, out, complaint = await script(path, "cont", "no-such=1")
    assert (code, out) == (1, "")
    assert complaint.startswith("stratovirt-qmp: ")
    assert "no-such" in complaint
    assert complaint.count("\n") == 1


async def test_nobody_listening_is_one_line_and_exit_status_1(path: Path) -> None:
    complaint = f"stratovirt-qmp: {path}: No such file or directory\n"
    assert await script(path, "query-status") == (1, "", complaint)
    assert (await script("127.0.0.1:1", "query-status"))[0] == 1
    assert (await script())[0] == 2


async def test_lines_from_a_script_go_on_after_a_refusal(control: FakeControl, path: Path) -> None:
    code, out, complaint = await script(path, stdin=b"stop\n\nstop\nx y\nquery-status\n")
    assert code == 1
    assert out.splitlines()[-1] == "status      paused"
    assert len(complaint.splitlines()) == 2


async def test_a_reply_that_does_not_come_is_given_up(control: FakeControl, path: Path) -> None:
    control.gate = trio.Event()
    code, _, complaint = await script("--timeout", "0.1", path, "stop")
    assert (code, complaint) == (1, "stratovirt-qmp: reply to stop: nothing within 0.1 s\n")


async def test_a_reader_that_leaves_is_no_traceback(control: FakeControl, path: Path) -> None:
    command = f"{' '.join(SHELL)} {path} query-commands | true"
    done = await trio.run_process(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_stderr=True, check=False
    )
    assert done.stderr == b""
    assert done.returncode in (0, 141)


async def test_a_script_loads_neither_trio_nor_prompt_toolkit(control: FakeControl, path: Path) -> None:
    program = (
        "import sys; from stratovirt.tools.qmp.script import main; "
        f"main([{str(path)!r}, 'stop']); print({{'trio', 'prompt_toolkit'}} & set(sys.modules))"
    )
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    assert done.stdout == b"set()\n"


async def test_the_shell_executes_completes_and_shows_events(
    control: FakeControl, path: Path, tmp_path: Path
) -> None:
    async with on_terminal(str(path), home=tmp_path) as terminal:
        await terminal.prompt()
        await terminal.type("query-stat\t")
        await terminal.until("us")  # what was missing
        await terminal.type("\r")
        await terminal.until("status      running")
        await terminal.prompt()
        await terminal.type("half a li")
        await terminal.until("half a li")
        control.events.publish(WasReset(Cause.HOST_QMP_SYSTEM_RESET))
        await terminal.until("RESET guest=false reason=host-qmp-system-reset")
        await terminal.prompt()
        await terminal.type("\x03")
        await terminal.type("stop\r")
        await terminal.until("STOP")
        await terminal.type("x y\r")
        await terminal.until("error: 'y' is not key=value")
        await terminal.type("help\r")
        await terminal.until("system_reset")
        await terminal.prompt()
        await terminal.type("\x04")
        assert await terminal.process.wait() == 0
    history = tmp_path / ".local" / "state" / "stratovirt" / "qmp-history"
    assert "+stop" in history.read_text().splitlines()


async def test_interrupting_a_command_stops_waiting_only(
    control: FakeControl, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()

    monkeypatch.setattr(control, "stop", slow)
    async with on_terminal(str(path), home=tmp_path) as terminal:
        await terminal.prompt()
        await terminal.type("stop\r")
        await begun.wait()
        terminal.process.send_signal(signal.SIGINT)
        await terminal.prompt()
        go_on.set()
        await terminal.type("query-status\r")
        await terminal.until("status      running")


async def test_the_shell_ends_with_the_machine(control: FakeControl, path: Path, tmp_path: Path) -> None:
    async with on_terminal(str(path), home=tmp_path) as terminal:
        await terminal.prompt()
        control.quit()
        await terminal.until("SHUTDOWN")
        await terminal.until("stratovirt-qmp: the server has closed the connection")
        assert await terminal.process.wait() == 0


async def test_without_its_library_the_shell_says_what_to_install(
    control: FakeControl, path: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden" / "prompt_toolkit"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('gone', name='prompt_toolkit')")
    async with on_terminal(str(path), home=tmp_path, python_path=hidden.parent) as terminal:
        await terminal.until("the interactive shell needs prompt_toolkit: pip install 'stratovirt[shell]'")
        assert await terminal.process.wait() == 1


async def test_help_and_completion_come_from_qemus_schema(path: Path, tmp_path: Path) -> None:
    with qemu(path):
        async with connect_unix(path, starting=True):
            pass
        code, out, _ = await script(path, "help", "screendump")
        assert (code, out.splitlines()[:3]) == (0, ["screendump", "  filename=string", "  [device=string]"])
        async with on_terminal(str(path), home=tmp_path) as terminal:
            await terminal.prompt()
            await terminal.type("blockdev-add driver=luk\t")
            await terminal.until("s")
            await terminal.type(" cache.di\t")
            await terminal.until("rect=")
            await terminal.type("\x03")
            await terminal.prompt()
            await terminal.type("quit\r")
            await terminal.until("the server has closed the connection")


def test_the_console_script_is_installed_under_its_name() -> None:
    done = subprocess.run([*SHELL, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: stratovirt-qmp [--json] [--timeout SECONDS] SOCK")

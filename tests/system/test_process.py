"""The process as its launcher sees it: daemon, pidfile, sockets, log."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trio

from tests.system.qmp import connected
from tests.system.vm import command, started

SECONDS = 30


def monitor(directory: Path) -> list[str]:
    return ["-machine", "none", "-qmp", f"unix:{directory}/qmp.sock,server,nowait"]


async def test_the_launcher_of_a_daemon_exits_when_qmp_answers(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    done = subprocess.run(
        command(*monitor(tmp_path), "-daemonize", "-pidfile", str(pidfile)),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    pid = int(pidfile.read_text())
    try:
        async with connected(tmp_path / "qmp.sock") as qmp:
            assert (await qmp.execute("query-status"))["status"] == "running"
            await qmp.execute("quit")
            await qmp.wait_event("SHUTDOWN")
        _wait_gone(pid)
    finally:
        _kill(pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_a_daemon_that_cannot_start_says_so_in_its_launchers_exit_code(tmp_path: Path) -> None:
    (tmp_path / "qmp.sock").write_text("no socket")
    done = subprocess.run(
        command(*monitor(tmp_path), "-daemonize"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "qmp.sock: exists and is not a socket" in done.stderr


async def test_sockets_are_private_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    async with started(*monitor(tmp_path), directory=tmp_path) as vm:
        async with vm.qmp():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        vm.process.kill()
        await vm.exit_code()
    assert path.exists(), "kill -9 leaves it behind"
    async with started(*monitor(tmp_path), directory=tmp_path) as vm:
        async with vm.qmp() as qmp:
            await qmp.execute("quit")
        assert await vm.exit_code() == 0
    assert not path.exists()


async def test_a_pidfile_holds_the_pid_for_as_long_as_the_process_lives(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    options = [*monitor(tmp_path), "-pidfile", str(pidfile)]
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp:
        assert pidfile.read_text() == f"{vm.pid}\n"
        second = subprocess.run(
            command("-machine", "none", "-pidfile", str(pidfile)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert str(pidfile) in second.stderr
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    assert not pidfile.exists()


async def test_ignored_options_are_warned_about_one_line_each(tmp_path: Path) -> None:
    options = [*monitor(tmp_path), "-nodefaults", "-sandbox", "on"]
    async with started(*options, directory=tmp_path) as vm:
        async with vm.qmp() as qmp:
            await qmp.execute("quit")
        await vm.exit_code()
    lines = (tmp_path / "stderr.txt").read_text().splitlines()
    assert len(lines) == 2
    assert any("-sandbox" in line and "ignored" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_at_any_moment_of_the_start_is_obeyed_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    for delay in (0.1, 0.2, 0.4, 0.8):
        async with started(*monitor(tmp_path), directory=tmp_path) as vm:
            await trio.sleep(delay)
            vm.process.send_signal(number)
            assert await vm.exit_code() == 0
        assert not (tmp_path / "qmp.sock").exists()
        assert "Traceback" not in (tmp_path / "stderr.txt").read_text()


async def test_a_refused_start_leaves_the_users_files_alone(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("precious")
    done = subprocess.run(
        command("-kernel", "/nope", "-accel", "tcg", "-serial", f"file,path={log}"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "stratovirt: -kernel /nope: No such file or directory\n")
    assert log.read_text() == "precious"


async def test_a_console_socket_that_waits_lets_the_guest_run_once_somebody_is_there(
    tmp_path: Path,
) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(bytes.fromhex("66baf803 b041 ee f390 ebfb") + bytes(64))  # prints A for ever
    options = [
        *("-machine", "microvm,accel=tcg", "-kernel", str(kernel)),
        *("-serial", f"socket,path={tmp_path}/console.sock,server"),
        *("-qmp", f"unix:{tmp_path}/qmp.sock,server,nowait"),
    ]
    async with started(*options, directory=tmp_path) as vm, vm.qmp() as qmp:
        assert (await qmp.execute("query-status"))["status"] == "prelaunch"
        async with vm.serial("console") as console:
            await console.expect(b"AAAA")
        assert (await qmp.execute("query-status"))["status"] == "running"
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.01)


def _kill(pid: int) -> None:
    if Path(f"/proc/{pid}").exists():
        os.kill(pid, signal.SIGKILL)

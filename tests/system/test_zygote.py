"""Machines from a zygote are like any others, and have nothing to do with each other."""

from __future__ import annotations

import os
import pty
import resource
import signal
import socket
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratovirt.testing import open_socket
from tests.system.qmp import connected
from tests.system.vm import command

SECONDS = 60.0
POLL_SECONDS = 0.01
REFUSED = ("-kernel", "/nonexistent")


@asynccontextmanager
async def ended(process: trio.Process) -> AsyncIterator[trio.Process]:
    """``process`` in a block that it does not outlive."""
    try:
        with trio.fail_after(SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def zygote(directory: Path, *starter: str) -> AsyncIterator[trio.Process]:
    """A zygote that listens at ``zygote`` in ``directory``.

    :param starter: the words of a command that becomes the one that follows it.
    """
    words = [*starter, *command("--zygote", str(directory / "zygote"))]
    process = await trio.lowlevel.open_process(words)
    async with ended(process):
        async with await open_socket(directory / "zygote") as stream:
            await stream.send_eof()
            async for _ in stream:  # until what was forked for this has ended
                pass
        yield process


def via(directory: Path, *options: str) -> list[str]:
    return command("--via", str(directory / "zygote"), *options)


def machine(name: str) -> list[str]:
    """One without a guest; its monitor and pidfile are in the directory that it is started in."""
    return ["-machine", "none", "-qmp", f"unix:{name}.sock,server,nowait", "-pidfile", f"{name}.pid"]


@asynccontextmanager
async def started(directory: Path, name: str) -> AsyncIterator[trio.Process]:
    """The client of a machine that answers at ``NAME.sock``."""
    process = await trio.lowlevel.open_process(
        via(directory, *machine(name)), cwd=directory, stderr=subprocess.PIPE
    )
    async with ended(process):
        async with connected(directory / f"{name}.sock") as qmp:
            assert (await qmp.execute("query-status"))["status"] == "running"
        yield process


async def stderr(process: trio.Process) -> str:
    assert process.stderr is not None
    return b"".join([piece async for piece in process.stderr]).decode()


async def gone(path: Path) -> None:
    """Wait until there is no such file: nothing tells a stranger."""
    while path.exists():  # noqa: ASYNC110
        await trio.sleep(POLL_SECONDS)


async def test_a_clients_words_reach_the_machine_and_its_words_and_exit_code_the_client(
    tmp_path: Path,
) -> None:
    async with zygote(tmp_path):
        direct = await trio.run_process(command(*REFUSED), capture_stderr=True, check=False)
        refused = await trio.run_process(via(tmp_path, *REFUSED), capture_stderr=True, check=False)
        assert (refused.returncode, refused.stderr) == (direct.returncode, direct.stderr)
        version = await trio.run_process(via(tmp_path, "-version"), capture_stdout=True)
        assert version.stdout.startswith(b"StratoVirt ")


async def test_standard_input_and_output_are_the_clients(tmp_path: Path) -> None:
    options = ["-machine", "none", "-chardev", "stdio,id=console", "-mon", "chardev=console,mode=control"]
    said = b'{"execute": "qmp_capabilities"}{"execute": "quit", "id": "the end"}'
    async with zygote(tmp_path):
        done = await trio.run_process(via(tmp_path, *options), stdin=said, capture_stdout=True)
    assert b'"the end"' in done.stdout


async def test_the_umask_is_the_clients(tmp_path: Path) -> None:
    options = [*machine("first"), "-chardev", "file,id=log,path=log", "-serial", "chardev:log"]
    async with zygote(tmp_path):
        process = await trio.lowlevel.open_process(via(tmp_path, *options), cwd=tmp_path, umask=0o027)
        async with ended(process), connected(tmp_path / "first.sock"):
            assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


async def test_two_machines_at_once_end_one_by_one(tmp_path: Path) -> None:
    async with zygote(tmp_path), started(tmp_path, "first") as first, started(tmp_path, "second") as second:
        async with connected(tmp_path / "first.sock") as qmp:
            await qmp.execute("quit")
        assert await first.wait() == 0
        async with connected(tmp_path / "second.sock") as qmp:
            assert (await qmp.execute("query-status"))["status"] == "running"
            await qmp.execute("quit")
        assert await second.wait() == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["zygote"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_to_the_client_ends_the_machine_in_order(tmp_path: Path, number: int) -> None:
    async with zygote(tmp_path), started(tmp_path, "first") as client:
        async with connected(tmp_path / "first.sock") as qmp:
            client.send_signal(number)
            assert (await qmp.wait_event("SHUTDOWN"))["data"]["guest"] is False
        assert await client.wait() == 0
        assert not (tmp_path / "first.sock").exists()


async def test_a_machine_that_is_killed_takes_nobody_with_it(tmp_path: Path) -> None:
    async with zygote(tmp_path), started(tmp_path, "first") as first, started(tmp_path, "second"):
        os.kill(int((tmp_path / "first.pid").read_text()), signal.SIGKILL)
        assert await first.wait() == 128 + signal.SIGKILL
        assert await stderr(first) == "stratovirt: the machine was killed by SIGKILL\n"
        async with connected(tmp_path / "second.sock") as qmp:
            assert (await qmp.execute("query-status"))["status"] == "running"
        async with started(tmp_path, "third"):
            pass


def leave_descriptors(process: trio.Process, count: int) -> None:
    """Have ``process`` be refused more than ``count`` descriptors above those that it has."""
    has = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
    limit = 0
    while count or limit <= max(has):
        count -= limit not in has
        limit += 1
    _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, most))


def naps(process: trio.Process) -> int:
    """How often ``process`` has waited for something."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


async def test_without_descriptors_for_another_machine_its_client_is_refused_and_the_others_run_on(
    tmp_path: Path,
) -> None:
    async with zygote(tmp_path) as parent:
        leave_descriptors(parent, 3)  # a machine takes two
        async with started(tmp_path, "first") as first:
            for _ in range(2):
                done = await trio.run_process(via(tmp_path, "-version"), capture_stderr=True, check=False)
                assert (done.returncode, done.stderr.decode()) == (
                    1,
                    f"stratovirt: --via {tmp_path}/zygote: "
                    "the zygote cannot start a machine: Too many open files\n",
                )
            async with connected(tmp_path / "first.sock") as qmp:
                await qmp.execute("quit")
            assert await first.wait() == 0
        async with started(tmp_path, "second"):
            pass


async def test_a_client_that_cannot_be_accepted_waits_without_keeping_the_zygote_busy(
    tmp_path: Path,
) -> None:
    async with zygote(tmp_path) as parent:
        leave_descriptors(parent, 2)
        async with started(tmp_path, "first") as first:
            second = await trio.lowlevel.open_process(via(tmp_path, "-version"), stdout=subprocess.DEVNULL)
            async with ended(second):
                before = naps(parent)
                while naps(parent) < before + 5:  # noqa: ASYNC110
                    await trio.sleep(POLL_SECONDS)
                assert second.returncode is None
                async with connected(tmp_path / "first.sock") as qmp:
                    await qmp.execute("quit")
                assert await first.wait() == 0
                assert await second.wait() == 0


async def test_a_zygote_may_have_as_many_descriptors_as_it_can_get_and_its_machines_what_is_usual(
    tmp_path: Path,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = most // 2
    limited = ("prlimit", f"--nofile={usual}:{most}")
    async with zygote(tmp_path, *limited) as parent, started(tmp_path, "first"):
        assert resource.prlimit(parent.pid, resource.RLIMIT_NOFILE) == (most, most)
        pid = int((tmp_path / "first.pid").read_text())
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (usual, most)


async def test_exit_codes_arrive_also_when_the_starter_of_the_zygote_ignored_the_end_of_children(
    tmp_path: Path,
) -> None:
    async with zygote(tmp_path, "env", "--ignore-signal=CHLD"):
        for _ in range(2):
            done = await trio.run_process(via(tmp_path, *REFUSED), capture_stderr=True, check=False)
            assert done.returncode == 1
            assert b"/nonexistent" in done.stderr


async def test_a_client_that_vanishes_hangs_up_its_machine(tmp_path: Path) -> None:
    async with zygote(tmp_path), started(tmp_path, "first") as client:
        client.kill()
        await gone(tmp_path / "first.sock")


async def test_the_end_of_the_zygote_is_that_of_its_machines(tmp_path: Path) -> None:
    async with zygote(tmp_path) as parent, started(tmp_path, "first") as first:
        parent.send_signal(signal.SIGTERM)
        assert await first.wait() == 0
        assert await parent.wait() == 0
        assert list(tmp_path.iterdir()) == []


async def test_machines_do_not_outlive_a_zygote_that_is_killed(tmp_path: Path) -> None:
    async with zygote(tmp_path) as parent, started(tmp_path, "first") as first:
        parent.kill()
        assert await first.wait() == 1
        assert "the zygote has ended" in await stderr(first)
        await gone(tmp_path / "first.sock")


async def test_a_daemon_outlives_its_zygote(tmp_path: Path) -> None:
    async with zygote(tmp_path):
        daemon = [*machine("first"), "-daemonize"]
        await trio.run_process(via(tmp_path, *daemon), cwd=tmp_path)
    pid = int((tmp_path / "first.pid").read_text())
    try:
        async with connected(tmp_path / "first.sock") as qmp:
            await qmp.execute("quit")
        with trio.fail_after(SECONDS):
            await gone(tmp_path / "first.pid")
    finally:
        with pytest.raises(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await trio.sleep(POLL_SECONDS)


@pytest.mark.parametrize("said", [b"", b"\xff\xff\xff\xff", b"\x05\0\0\0hello", b"\x05\0\0\0he"])
async def test_a_client_that_talks_nonsense_is_left_alone_with_it(tmp_path: Path, said: bytes) -> None:
    async with zygote(tmp_path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(str(tmp_path / "zygote"))
            stranger.sendall(said)
        async with started(tmp_path, "first"):
            pass


async def test_without_a_zygote_the_client_says_how_to_get_one(tmp_path: Path) -> None:
    done = await trio.run_process(via(tmp_path, *REFUSED), capture_stderr=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"stratovirt: --via {tmp_path}/zygote: No such file or directory; "
        f"start a zygote: stratovirt --zygote {tmp_path}/zygote\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_client_that_waits_for_the_zygotes_answer_can_be_interrupted(
    tmp_path: Path, number: int
) -> None:
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        await silent.bind(str(tmp_path / "zygote"))
        silent.listen()
        client = await trio.lowlevel.open_process(via(tmp_path, *REFUSED), stderr=subprocess.PIPE)
        async with ended(client):
            connection, _ = await silent.accept()
            with connection:
                assert await connection.recv(1)  # it has asked
                client.send_signal(number)
                assert await client.wait() == -number
                assert await stderr(client) == ""


async def test_a_killed_machine_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        options = [*machine("first"), "-serial", "stdio"]
        async with zygote(tmp_path):
            process = await trio.lowlevel.open_process(
                via(tmp_path, *options), cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave
            )
            async with ended(process), connected(tmp_path / "first.sock"):
                assert termios.tcgetattr(slave) != before
                os.kill(int((tmp_path / "first.pid").read_text()), signal.SIGKILL)
                assert await process.wait() == 128 + signal.SIGKILL
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)

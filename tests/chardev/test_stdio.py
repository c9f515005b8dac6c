"""stdio leaves the terminal, and the file descriptions that it shares with the shell, as it found them.

The device runs in a process of its own, on real ptys, pipes and files.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("stdio_program.py")
DEADLINE = 30.0


@contextmanager
def program(
    mode: str, stdin: int, stdout: int, stderr: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, in a session of its own; it has ended when the block has."""
    command = [sys.executable, str(PROGRAM), mode]
    with subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pty: master and slave."""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def read_until(fd: int, text: bytes) -> bytes:
    """What comes out of ``fd`` up to and with ``text``."""
    data, deadline = b"", time.monotonic() + DEADLINE
    while text not in data:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{text!r} did not come, only {data!r}"
        more = os.read(fd, 65536)
        assert more, f"{text!r} did not come before the end, only {data!r}"
        data += more
    return data


def wait_until(condition: Callable[[], bool]) -> None:
    """For what can only be looked at: the state of a terminal."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        select.select([], [], [], 0.01)


def is_raw(slave: int) -> bool:
    return not termios.tcgetattr(slave)[tty.LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_a_terminal_is_raw_while_it_is_served(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    with program("echo", slave, slave):
        read_until(master, b"ready\r\n")
        assert is_raw(slave)
        os.write(master, b"\x03\x1a no newline")
        assert read_until(master, b"NO NEWLINE") == b"\x03\x1a NO NEWLINE"


@pytest.mark.parametrize(
    ("mode", "typed", "how", "code"),
    [("echo", b"", signal.SIGTERM, 0), ("crash", b"x", None, 1)],
    ids=["SIGTERM", "exception"],
)
def test_the_terminal_is_restored(
    terminal: tuple[int, int], mode: str, typed: bytes, how: signal.Signals | None, code: int
) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    with program(mode, slave, slave) as process:
        read_until(master, b"ready")
        assert termios.tcgetattr(slave) != before
        os.write(master, typed)
        if how:
            process.send_signal(how)
        assert process.wait(DEADLINE) == code
    assert termios.tcgetattr(slave) == before
    assert os.get_blocking(slave)


def test_the_terminal_is_raw_again_after_sigcont(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    with program("echo", slave, slave) as process:
        read_until(master, b"ready")
        process.send_signal(signal.SIGSTOP)
        termios.tcsetattr(slave, termios.TCSANOW, before)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: is_raw(slave))
        process.terminate()
        assert process.wait(DEADLINE) == 0
    assert termios.tcgetattr(slave) == before


def test_a_shared_terminal_or_pipe_stays_blocking_for_everybody_else(terminal: tuple[int, int]) -> None:
    """Not only afterwards: our own stderr would fail to log, and kill -9 would leave it so."""
    _, slave = terminal
    reader, writer = os.pipe()
    with program("echo", slave, writer):
        read_until(reader, b"ready")
        assert os.get_blocking(slave)
        assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_pipes_carry_all_bytes_both_ways_and_the_end_of_input_ends_nothing() -> None:
    with program("echo", subprocess.PIPE, subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(bytes(range(64)))
        process.stdin.close()
        assert read_until(process.stdout.fileno(), bytes(range(64))) == b"ready\n" + bytes(range(64))
        process.terminate()
        assert process.wait(DEADLINE) == 0


def test_a_slow_reader_of_a_pipe_gets_everything() -> None:
    with program("fill", subprocess.DEVNULL, subprocess.PIPE) as process:
        assert process.stdout
        total = 0
        while data := process.stdout.read(1000):
            assert data == b"x" * len(data)
            total += len(data)
        assert total == 2048 * 1024
        assert process.wait(DEADLINE) == 0


def test_files_work_and_are_appended_to_where_the_shell_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"script")
    (tmp_path / "out").write_bytes(b"before ")
    with open(tmp_path / "in", "rb") as stdin, open(tmp_path / "out", "ab") as stdout:
        with program("echo", stdin.fileno(), stdout.fileno()) as process:
            wait_until(lambda: (tmp_path / "out").read_bytes().endswith(b"SCRIPT"))
            process.terminate()
            assert process.wait(DEADLINE) == 0
        assert os.get_blocking(stdout.fileno())
    assert (tmp_path / "out").read_bytes() == b"before ready\nSCRIPT"


def test_sockets_work_and_block_again_afterwards() -> None:
    """A socket cannot be opened anew, so its shared description is changed and changed back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with program("echo", theirs.fileno(), theirs.fileno()) as process:
            read_until(ours.fileno(), b"ready\n")
            ours.send(b"hello")
            read_until(ours.fileno(), b"HELLO")
            process.terminate()
            assert process.wait(DEADLINE) == 0
        assert os.get_blocking(theirs.fileno())


def test_a_closed_standard_stream_is_an_error_that_names_it() -> None:
    command = f"exec {sys.executable} {PROGRAM} echo <&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=DEADLINE)
    assert b"ConfigError: stdio: standard input is closed" in result.stderr

"""``stratovirt --via SOCKET OPTIONS…``: a machine that starts from a zygote, as if this process were it.

The law: its exit code becomes ours, signals that end a process reach it, and the terminal is left as it was
found, however it ends. While there is no machine yet, such a signal ends us: a machine that the zygote starts
all the same finds its client gone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from stratovirt.zygote import request

EXIT_REFUSED = 1
SIGNAL_EXIT = 128
"""Plus the number: the exit code of what a signal killed, as shells give it."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
STDIN = 0
STATUS_SIZE = 4
REASON_SIZE = 256
"""At most what a refusal takes. Where there is a descriptor instead, nothing is read behind it (unix(7))."""


def main(words: list[str]) -> int:
    """Start the machine and wait for its end; the exit code.

    :param words: the socket's path, then the machine's options.
    """
    if not words:
        return _refused("--via: the path of a zygote's socket is missing: --via SOCKET OPTIONS")
    path, *argv = words
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the others: without a traceback
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            return _refused(f"--via {path}: {error.strerror}; start a zygote: stratovirt --zygote {path}")
        return _be_it(connection, path, argv)


def _be_it(connection: socket.socket, path: str, argv: list[str]) -> int:
    try:
        with _terminal_kept():
            with suppress(BrokenPipeError):  # it has refused already, and said why
                request.send(connection, request.of_this_process(argv), _standard_descriptors())
            _wait_for(connection)
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until it is known whom to forward them to
            said, descriptors, _, _ = socket.recv_fds(connection, REASON_SIZE, 1)
            if not descriptors:
                return _refused(f"--via {path}: {said.decode() or 'the zygote gave no answer'}")
            _forward_signals(descriptors[0])
            status = connection.recv(STATUS_SIZE, socket.MSG_WAITALL)
    except OSError as error:
        return _refused(f"--via {path}: {error.strerror}")
    if len(status) < STATUS_SIZE:
        return _refused(f"--via {path}: the zygote has ended, and its machines with it")
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "little"))
    if code >= 0:
        return code
    print(f"stratovirt: the machine was killed by {signal.Signals(-code).name}", file=sys.stderr)
    return SIGNAL_EXIT - code


def _wait_for(connection: socket.socket) -> None:
    """Until something can be read from it, or it has ended."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.poll()


def _refused(reason: str) -> int:
    print(f"stratovirt: {reason}", file=sys.stderr)
    return EXIT_REFUSED


def _standard_descriptors() -> list[int]:
    """0, 1 and 2; the null device for one that is closed."""
    return [_open_or_null(number) for number in range(request.STANDARD_DESCRIPTORS)]


def _open_or_null(number: int) -> int:
    try:
        os.fstat(number)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)
    return number


def _forward_signals(machine: int) -> None:
    """From now on, to the process of this pidfd."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has ended, and its status is on the way
            signal.pidfd_send_signal(machine, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Put the terminal's modes back. The machine does so itself, unless it was killed."""
    if not os.isatty(STDIN):
        yield
        return
    import termios

    modes = termios.tcgetattr(STDIN)
    try:
        yield
    finally:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(STDIN, termios.TCSADRAIN, modes)

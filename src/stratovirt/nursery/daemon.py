"""``-daemonize`` and ``-pidfile``.

The law: the launcher exits 0 only when the daemon's monitors answer, and with the daemon's own exit code and
its words on stderr when it fails before that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stratovirt.errors import ConfigError
from stratovirt.nursery import signalmask

READY = b"\0"


def daemonize() -> Callable[[], None]:
    """Go on in a child of a new session; the parent waits, and never returns from here.

    To be called before any thread, socket or file is there to be shared.

    :return: for the child, to be called when it is ready: lets go of the terminal and of the parent.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        signalmask.die_by_them()
        os.close(writing)
        _wait_and_exit(reading, child)
    os.close(reading)
    os.setsid()

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.close(null)
        with suppress(BrokenPipeError):  # a launcher that was killed; the daemon lives
            os.write(writing, READY)
        os.close(writing)

    return ready


def _wait_and_exit(reading: int, child: int) -> None:
    if os.read(reading, 1) == READY:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) or 1)


@contextmanager
def pidfile(path: str | None) -> Iterator[None]:
    """Within this block ``path`` holds this process's id, locked against a second owner.

    :raises ConfigError: it cannot be written, or another living process holds it.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)
    try:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"-pidfile {path}: {error.strerror}") from error
    try:
        _lock(fd, path)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            os.unlink(path)
    finally:
        os.close(fd)


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(f"-pidfile {path}: another running machine holds it") from error

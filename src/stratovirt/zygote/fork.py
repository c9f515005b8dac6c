"""What a fork of the zygote does to be somebody else's machine."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

from stratovirt.nursery import signalmask
from stratovirt.zygote import request

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def forget_signals() -> None:
    """Have those that end a process end it, and write about none."""
    writing = signal.set_wakeup_fd(-1)
    if writing >= 0:
        os.close(writing)
    for number in signalmask.ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def take_on(connection: socket.socket) -> None:
    """Become whom the client asks for: its terminal, directory, environment and arguments."""
    with connection:
        wanted, descriptors = request.receive(connection)
    os.setsid()  # signals of the zygote's terminal are not for us; the client forwards those of its own
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(wanted.directory)
    os.umask(wanted.umask)
    os.environ.clear()
    os.environ.update(wanted.environment)
    sys.argv[1:] = wanted.argv


def end_with(zygote: int) -> None:
    """Get SIGTERM when the zygote dies, also now if it is dead already (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != zygote:
        os.kill(os.getpid(), signal.SIGTERM)

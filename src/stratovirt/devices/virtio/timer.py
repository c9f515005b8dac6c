"""A one-shot timer as a file descriptor (timerfd_create(2)), for a reactor to wait for."""

from __future__ import annotations

import ctypes
import os
import time

_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC  # <sys/timerfd.h>
_NS_PER_SECOND = 1_000_000_000

# Python has these from 3.13 on.
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """Readable once :meth:`arm`'s time is over, until :meth:`clear`.

    :raises OSError: no fds are left.
    """

    def __init__(self) -> None:
        self.fd = _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
        self.armed = False

    def arm(self, seconds: float) -> None:
        """Be readable in ``seconds``, in a nanosecond at the earliest."""
        self._set(max(int(seconds * _NS_PER_SECOND), 1))
        self.armed = True

    def clear(self) -> None:
        """Neither readable nor armed any more."""
        self._set(0)
        self.armed = False

    def close(self) -> None:
        """Close the fd."""
        os.close(self.fd)

    def _set(self, ns: int) -> None:
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(ns, _NS_PER_SECOND)))
        _checked(_libc.timerfd_settime(self.fd, 0, ctypes.byref(spec), None))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"timerfd: {os.strerror(error)}")
    return result

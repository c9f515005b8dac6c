"""One ioctl, by the name that the kernel's documentation knows it under."""

from __future__ import annotations

import os

from stratovirt.accel.kvm._kvm import ffi, lib


def ioctl(fd: int, request: str, argument: ffi.CData | int = 0) -> int:
    """Issue ``request`` (such as ``"KVM_SET_REGS"``) and return what it returns.

    :param argument: the structure it reads or fills in, or a plain number.
    :raises OSError: the kernel refuses; the text starts with the request's name.
    """
    pointer = ffi.cast("void *", argument)
    result: int = lib.ioctl(fd, getattr(lib, request), pointer)
    if result < 0:
        raise OSError(ffi.errno, f"{request}: {os.strerror(ffi.errno)}")
    return result

"""A tap: the kernel's Ethernet device whose cable ends in a file descriptor.

The law: whoever made the tap decides how long it lives. One that was not there before goes when the last
descriptor is closed; a persistent one, or one that came as descriptors, is its owner's.

Source: Linux, Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from stratovirt.backends.room import Room
from stratovirt.errors import ConfigError

TUN = "/dev/net/tun"

_TUNSETIFF, _TUNGETIFF = 0x400454CA, 0x800454D2
_TUNSETOFFLOAD, _TUNSETVNETHDRSZ, _TUNSETQUEUE = 0x400454D0, 0x400454D8, 0x400454D9
_SIOCGIFMTU = 0x8921

_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
_IFF_ATTACH_QUEUE, _IFF_DETACH_QUEUE = 0x0200, 0x0400
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 1, 2, 4, 8

_IFREQ = struct.Struct("16sH22x")  # struct ifreq: a name, and flags in its union
_IFREQ_MTU = struct.Struct("16si20x")
_INT = struct.Struct("i")

HEADER = 12
"""struct virtio_net_hdr_v1, in front of every frame."""

# Why TUNSETIFF is refused (drivers/net/tun.c).
_REFUSALS = {
    errno.EPERM: "not allowed without CAP_NET_ADMIN, unless it was made for you (ip tuntap add … user NAME)",
    errno.EBUSY: "in use by another program",
    errno.EINVAL: "is no tap, or was made with multi_queue for queues=1, or without for more",
    errno.E2BIG: "has no queue left",
}
# What a tap that comes as a descriptor must have been opened with, and what it is without. IFF_NO_PI cannot
# be asked for: in the answer its bit means IFF_NOFILTER.
_NEEDED = {
    _IFF_TAP: "is a tun: only a tap carries Ethernet frames",
    _IFF_VNET_HDR: "was opened without IFF_VNET_HDR",
}


class TapPort:
    """One queue of a tap. Implements :class:`stratovirt.devices.virtio.netqueues.Port`."""

    direct = True

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._room = Room(fd)
        self.room_fd = self._room.fd

    def receive(self, into: Sequence[memoryview]) -> int:
        """Store the next frame; its length, or 0 when there is none now.

        :raises OSError: the interface is gone.
        """
        try:
            return os.readv(self.fd, into)
        except BlockingIOError:
            return 0

    def send(self, frame: Sequence[memoryview]) -> bool:
        """Send a frame; False: there is no room now, and ``room_fd`` becomes readable when there is.

        :raises OSError: the kernel refuses the frame; the next may be taken.
        """
        try:
            os.writev(self.fd, frame)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close the queue."""
        self._room.close()
        os.close(self.fd)


class Tap:
    """A tap with one port per queue. Implements :class:`stratovirt.devices.virtio.net.NetBackend`.

    :param fds: its queues, owned from now on, also if this fails.
    :param mtu: of its interface; None: not known.
    :raises ConfigError: they are no taps, or without what is needed.
    """

    def __init__(self, fds: Sequence[int], mtu: int | None = None) -> None:
        with ExitStack() as opened:
            for fd in fds:
                opened.callback(_close, fd)
            if len(set(fds)) < len(fds):
                raise ConfigError(f"fds {_listed(fds)}: the same one twice")
            names = {_prepare(fd) for fd in fds}
            if len(names) > 1:
                raise ConfigError(
                    f"fds {_listed(fds)}: they belong to different taps: {', '.join(sorted(names))}"
                )
            self.ifname = names.pop()
            self.mtu = mtu
            self.ports = [TapPort(fd) for fd in fds]
            opened.pop_all()
        self._attached = len(fds)

    @classmethod
    def named(cls, ifname: str, queues: int = 1) -> Tap:
        """The tap ``ifname``, made if there is none.

        :raises ConfigError: it cannot be had; the text begins with the name.
        """
        with ExitStack() as opened:
            fds = []
            for _ in range(queues):
                fds.append(_open(ifname, multi_queue=queues > 1))
                opened.callback(os.close, fds[-1])
            mtu = _mtu(ifname)
            opened.pop_all()
        return cls(fds, mtu)

    def describe(self) -> str:
        """As ``info network`` shows it."""
        return f"tap,ifname={self.ifname},queues={len(self.ports)}"

    def set_offloads(self, *, checksum: bool, tso4: bool, tso6: bool, ecn: bool) -> None:
        """What the guest takes: frames without checksums, and TCP segments larger than the MTU."""
        flags = checksum * _TUN_F_CSUM
        if checksum:  # segmentation needs it
            flags |= tso4 * _TUN_F_TSO4 | tso6 * _TUN_F_TSO6 | (ecn and (tso4 or tso6)) * _TUN_F_TSO_ECN
        for port in self.ports:
            with suppress(OSError):  # the interface is gone, as who reads from it will be told
                fcntl.ioctl(port.fd, _TUNSETOFFLOAD, flags)

    def set_queues(self, count: int) -> None:
        """Use the first ``count`` queues; the kernel gives no frames to the others."""
        count = min(count, len(self.ports))
        for number, port in enumerate(self.ports):
            if (number < count) != (number < self._attached):
                flag = _IFF_ATTACH_QUEUE if number < count else _IFF_DETACH_QUEUE
                with suppress(OSError):  # as above
                    fcntl.ioctl(port.fd, _TUNSETQUEUE, _IFREQ.pack(b"", flag))
        self._attached = count

    def close(self) -> None:
        """Give the tap back."""
        for port in self.ports:
            port.close()


def _open(ifname: str, *, multi_queue: bool) -> int:
    """A queue of the tap ``ifname``.

    :raises ConfigError: it cannot be had.
    """
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{ifname}: {TUN}: {error.strerror}") from error
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | multi_queue * _IFF_MULTI_QUEUE
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(os.fsencode(ifname), flags))
    except OSError as error:
        os.close(fd)
        raise ConfigError(f"{ifname}: {_REFUSALS.get(error.errno or 0, error.strerror)}") from error
    return fd


def _prepare(fd: int) -> str:
    """Check that ``fd`` is a tap that can be used, and set it up; the name of its interface.

    :raises ConfigError: it is not.
    """
    try:
        name, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    except OSError as error:
        why = "is not open" if error.errno == errno.EBADF else "is no tap"
        raise ConfigError(f"fd {fd}: {why}") from error
    for flag, problem in _NEEDED.items():
        if not flags & flag:
            raise ConfigError(f"fd {fd}: {problem}")
    os.set_blocking(fd, False)
    os.set_inheritable(fd, False)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, _INT.pack(HEADER))
    return os.fsdecode(name.rstrip(b"\0"))


def _mtu(ifname: str) -> int | None:
    """The MTU of an interface in this process's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            request = fcntl.ioctl(any_socket, _SIOCGIFMTU, _IFREQ_MTU.pack(os.fsencode(ifname), 0))
        except OSError:  # renamed or moved away just now
            return None
    mtu: int = _IFREQ_MTU.unpack(request)[1]
    return mtu


def _close(fd: int) -> None:
    """Close what may not even be open."""
    try:
        os.close(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def _listed(fds: Sequence[int]) -> str:
    return ":".join(map(str, fds))

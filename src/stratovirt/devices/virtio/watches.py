"""The file descriptors of a device with many: watched by whoever serves it, and by nobody meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stratovirt.devices.virtio.device import Reactor, VirtioDevice

Ready = Callable[[], None]


class Watches:
    """Of ``device``; what becomes ready is told with its transport's lock held.

    All methods are called on the thread that serves the device, or while nobody does.
    """

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device
        self._ready: dict[int, Ready] = {}
        self._reactor: Reactor | None = None

    def watch(self, fd: int, ready: Ready) -> None:
        """Call ``ready`` while ``fd`` is readable, unless it is watched already.

        :raises OSError: the reactor cannot watch one more; it is not watched.
        """
        if fd not in self._ready:
            if self._reactor is not None:
                self._reactor.watch(fd, partial(self._call, ready))
            self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Do not call for ``fd``, if it is watched."""
        if self._ready.pop(fd, None) and self._reactor is not None:
            self._reactor.unwatch(fd)

    def attach(self, reactor: Reactor) -> None:
        """``reactor`` serves the device from now on."""
        self._reactor = reactor
        for fd, ready in self._ready.items():
            reactor.watch(fd, partial(self._call, ready))

    def detach(self) -> None:
        """Nobody serves the device for now."""
        assert self._reactor is not None
        for fd in self._ready:
            self._reactor.unwatch(fd)
        self._reactor = None

    def _call(self, ready: Ready) -> None:
        with self._device.transport.lock:
            ready()

"""What every virtio device is: its identity, its queues' work, and where it is plugged in.

A device is written by overriding a few methods of :class:`VirtioDevice`; docs/writing-a-device.md has a
complete one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from stratovirt.devices.virtio.queue import Chain, Virtqueue
from stratovirt.memory import GuestMemory


class Reactor(Protocol):
    """Calls a device when a file descriptor is ready, always on the same thread.

    Both methods are called on that thread, or while the reactor does not run.
    """

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` while ``fd`` is readable (level-triggered); it reads the fd, or unwatches it.

        :raises OSError: the host has no memory or no watches left; ``fd`` is not watched.
        """

    def unwatch(self, fd: int) -> None:
        """Do not call for ``fd`` any more."""


class Transport(Protocol):
    """Where a device is plugged in, as the device sees it.

    :ivar lock: held during each call of :meth:`VirtioDevice.serve` and :meth:`VirtioDevice.reset`.
    :ivar memory: the guest's; what is in a chain needs no other way to it.
    """

    @property
    def memory(self) -> GuestMemory: ...

    @property
    def lock(self) -> threading.Lock: ...

    def queue(self, index: int) -> Virtqueue | None:
        """The queue, if the driver has enabled it and is there (DRIVER_OK). With ``lock`` held."""

    def config_changed(self) -> None:
        """Tell the driver that the config space has changed. Any thread."""

    def ring(self, index: int) -> None:
        """Let queue ``index`` be served, as if the driver had kicked it. Any thread."""

    def serve(self, index: int) -> None:
        """Serve queue ``index`` at once: a backend's fd is ready. The reactor's thread, without the lock."""


class VirtioDevice:
    """Base of all devices; a class attribute or method is overridden where the device differs.

    :cvar device_id: virtio 1.2 §5.
    :cvar state_version: of what :meth:`save` gives.
    :ivar queue_sizes: the largest size of each queue.
    :ivar features: device features offered; the transport adds those of the rings.
    :ivar blocking: its work may block, so it is to be served on a thread of its own.
    :ivar transport: set before any method is called.
    :ivar draining: what waits in the queues is to be done now, whatever a limit says.
    """

    device_id: ClassVar[int]
    state_version: ClassVar[int] = 1
    queue_sizes: Sequence[int] = ()
    features: int = 0
    transport: Transport
    draining: bool = False

    @property
    def blocking(self) -> bool:
        """May :meth:`serve` block? Asked whenever the device is about to be served anew."""
        return False

    def config(self) -> bytes:
        """The config space now; what lies behind it reads zero. vCPU threads."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver writes its config space. vCPU threads."""

    def activate(self, features: int) -> None:
        """The driver is there and has accepted ``features``. vCPU thread, with the lock held."""

    def serve(self, queue: Virtqueue) -> bool:
        """Do one unit of work for ``queue``; True: there may be more. Its own thread, with the lock held.

        :raises BrokenQueue: the driver broke a rule; the transport sets DEVICE_NEEDS_RESET.
        """
        chain = queue.pop()
        if chain is None:
            return False
        queue.push(chain, self.handle(queue, chain))
        return True

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        """Carry out the request in ``chain``; the bytes written to it."""
        raise NotImplementedError

    def attached(self, reactor: Reactor) -> None:
        """From now on ``reactor`` serves the device: let it watch the backend's fds."""

    def detached(self, reactor: Reactor) -> None:
        """``reactor`` does not serve the device any more: undo :meth:`attached`."""

    def reset(self) -> None:
        """To power-on state, by the driver or with the machine; backends stay. With the lock held."""

    def interrupt(self) -> None:
        """Let :meth:`serve` return soon, if it waits for the host: the machine ends. Any thread."""

    def close(self) -> None:
        """Give back what the device holds; it is not used any more."""

    def backend_facts(self) -> dict[str, Any]:
        """What the driver has seen of the backend, in words for people; a restored machine shows the same."""
        return {}

    def save(self) -> dict[str, Any]:
        """State for a snapshot, as plain values; not while anybody serves the device or runs guest code."""
        return {}

    def load(self, version: int, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave in a version that :attr:`state_version` allows."""

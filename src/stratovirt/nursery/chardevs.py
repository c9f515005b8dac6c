"""The run's character devices: who uses which, and how they come and go.

The law: whoever runs ``serve`` of one is its user; it is closed only while it has none, or at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.sinks import RINGBUF_SIZE, RingBuffer
from stratovirt.cli import config
from stratovirt.errors import CommandError, ConfigError
from stratovirt.machine.chardevs import ChardevRequest
from stratovirt.machine.info import ChardevInfo
from stratovirt.nursery.backends import make_chardev

MONITOR = "a monitor"
"""What monitors are called as users of a character device."""


class Chardevs:
    """Character devices by id, and the user of each."""

    def __init__(self) -> None:
        self._all: dict[str, Chardev] = {}
        self._users: dict[str, str] = {}

    def __getitem__(self, id: str) -> Chardev:
        """The one of this id, which is there."""
        return self._all[id]

    def __iter__(self) -> Iterator[Chardev]:
        return iter(self._all.values())

    def __contains__(self, id: str) -> bool:
        return id in self._all

    def add(self, chardev: Chardev) -> None:
        """One more; it is closed in any case."""
        self._all[chardev.id] = chardev

    def remove(self, id: str) -> Chardev:
        """One less, which nobody uses; to be closed by the caller."""
        return self._all.pop(id)

    def use(self, id: str, user: str) -> Chardev:
        """``user`` has it from now on."""
        self._users[id] = user
        return self._all[id]

    def user(self, id: str) -> str | None:
        """Who has it."""
        return self._users.get(id)

    def release(self, id: str, user: str) -> None:
        """``user`` does not serve it any more; somebody who shares it may."""
        if self._users.get(id) == user:
            del self._users[id]

    def close(self) -> None:
        """Close all of them; nobody serves them any more."""
        for chardev in self:
            chardev.close()


def device_user(id: str) -> str:
    """What a device is called as the user of a character device."""
    return f'device "{id}"'


class Machine(Protocol):
    """What of the supervisor this needs."""

    def changing(self, command: str) -> AbstractAsyncContextManager[None]:
        """Hold the turn, in a state that allows ``command``.

        :raises CommandError: the state does not.
        """


class ChardevControl:
    """Implements :class:`stratovirt.machine.chardevs.CharacterDevices`."""

    def __init__(self, machine: Machine, chardevs: Chardevs) -> None:
        self._machine = machine
        self._chardevs = chardevs

    async def add(self, request: ChardevRequest) -> ChardevInfo:
        """See :class:`CharacterDevices`; in a thread, for a peer may take its time to accept."""
        async with self._machine.changing("chardev-add"):
            if request.id in self._chardevs:
                raise CommandError(f'chardev-add: there is a chardev "{request.id}" already')
            try:
                chardev = make_chardev(_spec(request))
                await trio.to_thread.run_sync(chardev.open)
            except ConfigError as error:
                raise CommandError(f"chardev-add: {error}") from error
            self._chardevs.add(chardev)
            return self._info(chardev)

    async def remove(self, id: str) -> None:
        """See :class:`CharacterDevices`."""
        async with self._machine.changing("chardev-remove"):
            if id not in self._chardevs:
                raise CommandError(f'chardev-remove: there is no chardev "{id}"')
            if user := self._chardevs.user(id):
                raise CommandError(f'chardev-remove: the chardev "{id}" is in use by {user}')
            self._chardevs.remove(id).close()

    def list(self) -> list[ChardevInfo]:
        """See :class:`CharacterDevices`."""
        return [self._info(chardev) for chardev in self._chardevs]

    def read(self, id: str, size: int) -> bytes:
        """See :class:`CharacterDevices`."""
        if id not in self._chardevs:
            raise CommandError(f'ringbuf-read: there is no chardev "{id}"')
        chardev = self._chardevs[id]
        if not isinstance(chardev, RingBuffer):
            raise CommandError(f'ringbuf-read: the chardev "{id}" is no ring buffer')
        return chardev.read(size)

    def _info(self, chardev: Chardev) -> ChardevInfo:
        return ChardevInfo(chardev.id, chardev.filename, self._chardevs.user(chardev.id) is not None)


def _spec(request: ChardevRequest) -> config.Chardev:
    """As the command line would have it."""
    match request.kind:
        case "unix":
            return config.SocketChardev(request.id, config.UnixAddress(request.path), request.server, False)
        case "inet":
            address = config.TcpAddress(request.host, request.port)
            return config.SocketChardev(request.id, address, request.server, False)
        case "pty":
            return config.PtyChardev(request.id)
        case "file":
            return config.FileChardev(request.id, request.path)
        case "null":
            return config.NullChardev(request.id)
        case "ringbuf":
            return config.RingbufChardev(request.id, RINGBUF_SIZE if request.size is None else request.size)

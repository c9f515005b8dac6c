"""Hot plug: backends come and go, and devices in the replaceable slots with them.

The law: a slot's device changes only while nobody serves it, in its task's ``quiesced`` block. What fails
leaves the machine as it was, and whatever was opened for it is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, cast

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.devices.virtio.net import VirtioNet
from stratovirt.errors import CommandError, ConfigError
from stratovirt.machine.events import DeviceDeleted, EventBus
from stratovirt.machine.inventory import (
    BlockNode,
    DeviceKind,
    DeviceRequest,
    DiskInfo,
    IoThreadInfo,
    Netdev,
    NetworkInfo,
    PluggedDevice,
)
from stratovirt.nursery import netinfo
from stratovirt.nursery.chardevs import Chardevs, device_user
from stratovirt.nursery.consoles import Consoles
from stratovirt.nursery.devices import DeviceTask
from stratovirt.nursery.diskinfo import disk_info
from stratovirt.nursery.iothreads import IoThread

UNPLUG_SECONDS = 10
"""How long requests in flight may take at device_del; kata and libvirt wait that long for the event."""

BACKENDS = {
    "block": ("block backend", "blockdev-add", "blockdev-del"),
    "net": ("network backend", "netdev_add", "netdev_del"),
}


class Backend(Protocol):
    """The host's side of a device."""

    def close(self) -> None: ...


class SlotDevice(Protocol):
    """The device in a replaceable slot (:class:`VirtioBlock`, :class:`VirtioNet`)."""

    def unplug(self) -> None: ...


@dataclass
class Slot:
    """A replaceable slot.

    :ivar index: of its task among the machine's.
    :ivar number: as ``addr`` counts, per kind.
    :ivar occupant: what is plugged in.
    :ivar iothread: that serves what was plugged in at the start.
    """

    kind: DeviceKind
    index: int
    number: int
    insert: Callable[[Backend, DeviceRequest], None]
    device: SlotDevice
    occupant: PluggedDevice | None = None
    iothread: IoThread | None = None


class Machine(Protocol):
    """What of the supervisor hot plug needs."""

    events: EventBus

    def changing(self, command: str) -> AbstractAsyncContextManager[None]:
        """Hold the turn, in a state that allows ``command``.

        :raises CommandError: the state does not.
        """

    def device_task(self, index: int) -> DeviceTask: ...


class Fittings(Protocol):
    """What hot plug works with (:class:`stratovirt.nursery.plugging.Plugboard`).

    :ivar slots: the replaceable ones, in order, blocks first; none for a machine without a guest.
    :ivar backends: by kind and name; changed in place, closed by their owner at the end.
    :ivar nodes: the block backends as they were asked for, by name.
    :ivar reserved: ids of the machine's other devices.
    :ivar balloon: None: the machine has none.
    :ivar iothreads: by id.
    :ivar consoles: those of its virtio-serial device.
    :ivar chardevs: that carry them, and all others.
    """

    @property
    def chardevs(self) -> Chardevs: ...

    @property
    def consoles(self) -> Consoles: ...

    @property
    def balloon(self) -> VirtioBalloon | None: ...

    @property
    def iothreads(self) -> Mapping[str, IoThread]: ...

    @property
    def slots(self) -> Sequence[Slot]: ...

    @property
    def backends(self) -> dict[DeviceKind, dict[str, Backend]]: ...

    @property
    def nodes(self) -> dict[str, BlockNode]: ...

    @property
    def reserved(self) -> frozenset[str]: ...

    def open_disk(self, node: BlockNode) -> Backend:
        """Open a block backend; may block.

        :raises ConfigError: it cannot be had.
        """

    def open_netdev(self, netdev: Netdev) -> Backend:
        """Open a network backend; may block. The descriptors of the request are its own, also if it fails.

        :raises ConfigError: it cannot be had.
        """


class HotPlug:
    """Implements :class:`stratovirt.machine.inventory.Inventory`."""

    def __init__(self, machine: Machine, fittings: Fittings) -> None:
        self._machine = machine
        self._fittings = fittings
        self._slots, self._backends, self._nodes = fittings.slots, fittings.backends, fittings.nodes
        self._reserved = fittings.reserved
        self._consoles = fittings.consoles

    async def add_block_node(self, node: BlockNode) -> None:
        """See :class:`Inventory`."""
        async with self._machine.changing("blockdev-add"):
            self._require_new("block", node.name)
            try:
                disk = await trio.to_thread.run_sync(self._fittings.open_disk, node)
            except ConfigError as error:
                raise CommandError(f"blockdev-add: {error}") from error
            self._backends["block"][node.name] = disk
            self._nodes[node.name] = node

    async def remove_block_node(self, name: str) -> None:
        """See :class:`Inventory`."""
        await self._remove("block", name)
        del self._nodes[name]

    async def add_netdev(self, netdev: Netdev) -> None:
        """See :class:`Inventory`."""
        async with self._machine.changing("netdev_add"):
            try:
                self._require_new("net", netdev.id)
            except CommandError:
                for fd in (*netdev.fds, *netdev.vhostfds):
                    os.close(fd)
                raise
            try:
                backend = await trio.to_thread.run_sync(self._fittings.open_netdev, netdev)
            except ConfigError as error:
                raise CommandError(f"netdev_add: {error}") from error
            self._backends["net"][netdev.id] = backend

    async def remove_netdev(self, id: str) -> None:
        """See :class:`Inventory`."""
        await self._remove("net", id)

    async def plug(self, request: DeviceRequest) -> None:
        """See :class:`Inventory`."""
        async with self._machine.changing("device_add"):
            backend = self._free_backend(request)
            slot = self._empty_slot(request)
            iothread = self._iothread(request)
            task = self._machine.device_task(slot.index)
            async with task.quiesced():
                slot.insert(backend, request)
                task.iothread = iothread
            slot.occupant = PluggedDevice(request.id, request.kind, slot.number, request.backend)

    async def plug_console(self, id: str, chardev: str) -> None:
        """See :class:`Inventory`."""
        async with self._machine.changing("device_add"):
            self._require_new_device(id)
            device = self._console_device()
            carrier = self._free_chardev(chardev)
            try:
                await trio.to_thread.run_sync(carrier.open)  # a connection that was used before is closed
                with device.transport.lock:
                    self._consoles.add(id, carrier)
            except ConfigError as error:
                raise CommandError(f"device_add: {error}") from error
            self._fittings.chardevs.use(chardev, device_user(id))

    async def unplug(self, id: str) -> None:
        """See :class:`Inventory`."""
        async with self._machine.changing("device_del"):
            if id in self._consoles:
                self._fittings.chardevs.release(await self._consoles.remove(id), device_user(id))
                self._machine.events.publish(DeviceDeleted(id))
                return
            slot = self._slot_of(id)
            task = self._machine.device_task(slot.index)
            with trio.move_on_after(UNPLUG_SECONDS):
                async with task.drained():
                    slot.device.unplug()
                    slot.occupant = None
            if slot.occupant is not None:
                raise CommandError(
                    f'device_del: "{id}" is busy: requests in flight were not done in {UNPLUG_SECONDS} s'
                )
            self._machine.events.publish(DeviceDeleted(id))

    def devices(self) -> list[PluggedDevice]:
        """See :class:`Inventory`."""
        return [slot.occupant for slot in self._slots if slot.occupant is not None]

    def block_nodes(self) -> list[BlockNode]:
        """See :class:`Inventory`."""
        return list(self._nodes.values())

    def disks(self) -> list[DiskInfo]:
        """See :class:`Inventory`."""
        return [
            disk_info(slot.occupant, self._nodes[slot.occupant.backend], slot.device)
            for slot in self._slots
            if slot.occupant is not None and isinstance(slot.device, VirtioBlock)
        ]

    def networks(self) -> list[NetworkInfo]:
        """See :class:`Inventory`."""
        cards = [
            (slot.occupant, slot.device)
            for slot in self._slots
            if slot.occupant is not None and isinstance(slot.device, VirtioNet)
        ]
        backends = cast(Mapping[str, netinfo.Backend], self._backends["net"])
        return list(netinfo.networks(backends, cards))

    def iothreads(self) -> list[IoThreadInfo]:
        """See :class:`Inventory`."""
        return [
            IoThreadInfo(thread.id, thread.thread_id)
            for thread in self._fittings.iothreads.values()
            if thread.thread_id is not None
        ]

    async def _remove(self, kind: DeviceKind, name: str) -> None:
        what, _, command = BACKENDS[kind]
        async with self._machine.changing(command):
            backend = self._backends[kind].get(name)
            if backend is None:
                raise CommandError(f'{command}: there is no {what} "{name}"')
            for user in self._users(kind, name):
                raise CommandError(f'{command}: the {what} "{name}" is in use by device "{user}"')
            del self._backends[kind][name]
            await trio.to_thread.run_sync(backend.close)

    def _require_new(self, kind: DeviceKind, name: str) -> None:
        what, command, _ = BACKENDS[kind]
        if name in self._backends[kind]:
            raise CommandError(f'{command}: there is a {what} "{name}" already')

    def _require_new_device(self, id: str) -> None:
        if id in self._reserved or id in self._consoles or any(device.id == id for device in self.devices()):
            raise CommandError(f'device_add: there is a device "{id}" already')

    def _console_device(self) -> VirtioConsole:
        if self._consoles.device is None:
            raise CommandError("device_add: a virtconsole needs a -device virtio-serial-device")
        return self._consoles.device

    def _free_chardev(self, id: str) -> Chardev:
        if id not in self._fittings.chardevs:
            raise CommandError(f'device_add: the chardev "{id}" does not exist; chardev-add makes one')
        if user := self._fittings.chardevs.user(id):
            raise CommandError(f'device_add: the chardev "{id}" is in use by {user}')
        return self._fittings.chardevs[id]

    def _users(self, kind: DeviceKind, backend: str) -> Iterator[str]:
        return (device.id for device in self.devices() if (device.kind, device.backend) == (kind, backend))

    def _free_backend(self, request: DeviceRequest) -> Backend:
        what, command, _ = BACKENDS[request.kind]
        self._require_new_device(request.id)
        backend = self._backends[request.kind].get(request.backend)
        if backend is None:
            other: DeviceKind = "net" if request.kind == "block" else "block"
            is_other = request.backend in self._backends[other]
            why = f"is a {BACKENDS[other][0]}" if is_other else f"does not exist; {command} makes one"
            raise CommandError(f'device_add: the {what} "{request.backend}" {why}')
        for user in self._users(request.kind, request.backend):
            raise CommandError(f'device_add: the {what} "{request.backend}" is in use by device "{user}"')
        return backend

    def _iothread(self, request: DeviceRequest) -> IoThread | None:
        if request.iothread is None:
            return None
        if request.kind == "net":
            raise CommandError("device_add: iothread: a network card has its own thread; leave it out")
        thread = self._fittings.iothreads.get(request.iothread)
        if thread is None:
            raise CommandError(
                f'device_add: there is no iothread "{request.iothread}"; -object iothread makes one'
            )
        return thread

    def _empty_slot(self, request: DeviceRequest) -> Slot:
        slots = [slot for slot in self._slots if slot.kind == request.kind]
        if request.slot is None:
            for slot in slots:
                if slot.occupant is None:
                    return slot
            raise CommandError(f"device_add: no empty slot: all {len(slots)} of its kind are occupied")
        if request.slot >= len(slots):
            raise CommandError(
                f"device_add: addr {request.slot:#x}: there is no such slot; the last is {len(slots) - 1:#x}"
            )
        slot = slots[request.slot]
        if slot.occupant is not None:
            raise CommandError(
                f'device_add: addr {request.slot:#x}: the slot is occupied by device "{slot.occupant.id}"'
            )
        return slot

    def _slot_of(self, id: str) -> Slot:
        for slot in self._slots:
            if slot.occupant is not None and slot.occupant.id == id:
                return slot
        if id in self._reserved:
            raise CommandError(f'device_del: "{id}" cannot be unplugged: its slot is not a replaceable one')
        raise CommandError(f'device_del: there is no device "{id}"', "DeviceNotFound")

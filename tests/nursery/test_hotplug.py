"""Hot plug: every order, every refusal, and nothing lost of what is in flight."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import MappingProxyType

import pytest
import trio
import trio.testing

from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue
from stratovirt.errors import CommandError, ConfigError
from stratovirt.machine.events import DeviceDeleted, Event
from stratovirt.machine.inventory import BlockNode, DeviceKind, DeviceRequest, Netdev, PluggedDevice
from stratovirt.nursery import hotplug
from stratovirt.nursery.chardevs import Chardevs
from stratovirt.nursery.consoles import Consoles
from stratovirt.nursery.devices import DeviceTask
from stratovirt.nursery.hotplug import Backend, Slot
from stratovirt.nursery.iothreads import IoThread
from stratovirt.nursery.supervisor import Supervisor
from tests.device.virtio import DriverRig, driving

WITHIN = 30  # seconds


class FakeBackend:
    """A backend that knows whether it is open."""

    def __init__(self, fds: tuple[int, ...] = ()) -> None:
        self.open = True
        self.fds = fds

    def close(self) -> None:
        self.open = False
        for fd in self.fds:
            os.close(fd)


class SlotDevice(VirtioDevice):
    """A replaceable device that echoes; a test can hold it while it serves."""

    device_id = 42
    queue_sizes = (64,)

    def __init__(self) -> None:
        self.backend: Backend | None = None
        self.request: DeviceRequest | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.serving = threading.Event()

    @property
    def blocking(self) -> bool:
        return self.backend is not None

    def insert(self, backend: Backend, request: DeviceRequest) -> None:
        self.backend, self.request = backend, request

    def unplug(self) -> None:
        self.backend = None

    def handle(self, queue: Virtqueue, chain: Chain) -> int:
        self.serving.set()
        assert self.gate.wait(WITHIN)
        return chain.write(chain.read() if self.backend else b"no backend")


class FakeFittings:
    """Two block slots and one for a network card."""

    reserved = frozenset({"rng0"})
    balloon = None
    consoles = Consoles()
    iothreads: Mapping[str, IoThread] = MappingProxyType({})

    def __init__(self) -> None:
        self.devices = [SlotDevice() for _ in range(3)]
        kinds: list[tuple[DeviceKind, int]] = [("block", 0), ("block", 1), ("net", 0)]
        self.slots = [
            Slot(kind, index, number, device.insert, device)
            for index, ((kind, number), device) in enumerate(zip(kinds, self.devices, strict=True))
        ]
        self.backends: dict[DeviceKind, dict[str, Backend]] = {"block": {}, "net": {}}
        self.nodes: dict[str, BlockNode] = {}
        self.chardevs = Chardevs()

    def open_disk(self, node: BlockNode) -> Backend:
        if node.filename == "/nope":
            raise ConfigError("/nope: No such file or directory")
        return FakeBackend()

    def open_netdev(self, netdev: Netdev) -> Backend:
        return FakeBackend(netdev.fds)


class FakeMachine:
    """A machine with devices and no vCPU."""

    def __init__(self, devices: list[DeviceTask]) -> None:
        self.devices = devices

    async def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def reset(self) -> None: ...

    def press_power_button(self) -> bool:
        return False

    def vcpus(self) -> list[object]:
        return []

    def read_memory(self, gpa: int, length: int) -> bytes:
        return b""


class Here:
    """A supervised machine whose slots are served."""

    def __init__(self, fittings: FakeFittings, rigs: list[DriverRig], supervisor: Supervisor) -> None:
        self.fittings, self.rigs, self.supervisor = fittings, rigs, supervisor
        self.inventory = supervisor.inventory
        self.events: list[Event] = []

    async def plugged(self, id: str, slot: int | None = None) -> None:
        """A disk with a backend of its own."""
        await self.inventory.add_block_node(BlockNode(id, f"/{id}"))
        await self.inventory.plug(DeviceRequest(id, "block", id, slot))

    def occupied(self) -> dict[str, int]:
        return {device.id: device.slot for device in self.inventory.devices()}


@contextmanager
def rigs_of(fittings: FakeFittings) -> Iterator[list[DriverRig]]:
    with ExitStack() as stack:
        rigs = [stack.enter_context(driving(device)) for device in fittings.devices]
        for rig in rigs:
            rig.negotiate()
            rig.transport.detach(rig.reactor)
        yield rigs
        for rig in rigs:
            rig.transport.attach(rig.reactor)


@asynccontextmanager
async def machine() -> AsyncIterator[Here]:
    fittings = FakeFittings()
    supervisor = Supervisor(fittings=fittings, freeze=True)
    with rigs_of(fittings) as rigs:
        tasks = [DeviceTask(rig.transport) for rig in rigs]
        here = Here(fittings, rigs, supervisor)
        with trio.fail_after(WITHIN), supervisor.events.subscribed(here.events.append):
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task.run)
                supervisor.attach(FakeMachine(tasks))  # type: ignore[arg-type]  # it has no vCPUs to tell of
                yield here
                nursery.cancel_scope.cancel()


async def test_a_device_fills_the_lowest_empty_slot_unless_it_is_told_one() -> None:
    async with machine() as here:
        await here.plugged("b", slot=1)
        await here.plugged("a")
        assert here.occupied() == {"a": 0, "b": 1}
        assert here.inventory.devices()[0] == PluggedDevice("a", "block", 0, "a")
        assert [node.name for node in here.inventory.block_nodes()] == ["b", "a"]


async def test_a_slot_can_be_filled_again_and_again() -> None:
    async with machine() as here:
        for _ in range(5):
            await here.plugged("disk")
            await here.inventory.unplug("disk")
            assert here.fittings.devices[0].backend is None
            await here.inventory.remove_block_node("disk")
        assert here.events == [DeviceDeleted("disk")] * 5


async def test_removing_a_backend_closes_it() -> None:
    async with machine() as here:
        read, write = os.pipe()
        os.close(write)
        await here.inventory.add_netdev(Netdev("net0", fds=(read,)))
        backend = here.fittings.backends["net"]["net0"]
        await here.inventory.remove_netdev("net0")
        assert isinstance(backend, FakeBackend)
        assert not backend.open


async def test_a_netdev_whose_id_is_taken_closes_the_descriptors_of_the_request() -> None:
    async with machine() as here:
        await here.inventory.add_netdev(Netdev("net0", ifname="tap0"))
        read, write = os.pipe()
        os.close(write)
        with pytest.raises(CommandError, match='netdev_add: there is a network backend "net0" already'):
            await here.inventory.add_netdev(Netdev("net0", fds=(read,)))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(read)


REFUSALS = {
    "a backend that does not exist": (
        DeviceRequest("x", "block", "x"),
        'device_add: the block backend "x" does not exist; blockdev-add makes one',
    ),
    "a backend of the other kind": (
        DeviceRequest("x", "net", "spare"),
        'device_add: the network backend "spare" is a block backend',
    ),
    "a backend in use": (
        DeviceRequest("x", "block", "disk"),
        'device_add: the block backend "disk" is in use by device "disk"',
    ),
    "an id in use": (DeviceRequest("disk", "block", "spare"), 'device_add: there is a device "disk" already'),
    "an id of another device": (
        DeviceRequest("rng0", "block", "spare"),
        'device_add: there is a device "rng0" already',
    ),
    "an occupied slot": (
        DeviceRequest("x", "block", "spare", 0),
        'device_add: addr 0x0: the slot is occupied by device "disk"',
    ),
    "a slot out of range": (
        DeviceRequest("x", "block", "spare", 7),
        "device_add: addr 0x7: there is no such slot; the last is 0x1",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_what_cannot_be_plugged_is_refused_and_changes_nothing(what: str) -> None:
    request, desc = REFUSALS[what]
    async with machine() as here:
        await here.plugged("disk")
        await here.inventory.add_block_node(BlockNode("spare", "/spare"))
        with pytest.raises(CommandError) as refusal:
            await here.inventory.plug(request)
        assert refusal.value.desc == desc
        assert here.occupied() == {"disk": 0}


async def test_no_empty_slot_is_said_so() -> None:
    async with machine() as here:
        await here.plugged("a")
        await here.plugged("b")
        with pytest.raises(CommandError, match="no empty slot: all 2 of its kind are occupied"):
            await here.plugged("c")


async def test_backends_are_refused_by_name() -> None:
    async with machine() as here:
        await here.plugged("disk")
        for attempt, desc in (
            (
                here.inventory.add_block_node(BlockNode("disk", "/x")),
                'there is a block backend "disk" already',
            ),
            (here.inventory.add_block_node(BlockNode("y", "/nope")), "blockdev-add: /nope: No such file or"),
            (here.inventory.remove_block_node("y"), 'blockdev-del: there is no block backend "y"'),
            (here.inventory.remove_block_node("disk"), '"disk" is in use by device "disk"'),
            (here.inventory.remove_netdev("disk"), 'netdev_del: there is no network backend "disk"'),
        ):
            with pytest.raises(CommandError, match=desc):
                await attempt


async def test_an_unknown_device_is_not_found_and_a_fixed_one_stays() -> None:
    async with machine() as here:
        with pytest.raises(CommandError) as unknown:
            await here.inventory.unplug("nobody")
        assert unknown.value.error_class == "DeviceNotFound"
        with pytest.raises(CommandError, match="cannot be unplugged"):
            await here.inventory.unplug("rng0")


async def test_requests_in_flight_are_done_before_the_device_goes() -> None:
    async with machine() as here:
        await here.plugged("disk")
        device, rig = here.fittings.devices[0], here.rigs[0]
        device.gate.clear()
        for number in range(8):
            rig.queue(0).offer([f"request {number}".encode()], [16])
        await trio.to_thread.run_sync(device.serving.wait, WITHIN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.inventory.unplug, "disk")
            await trio.testing.wait_all_tasks_blocked()
            device.gate.set()
        assert [used.data for used in rig.queue(0).collect()] == [
            f"request {number}".encode() for number in range(8)
        ]
        assert here.events == [DeviceDeleted("disk")]


async def test_a_device_that_stays_busy_is_not_unplugged_and_works_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hotplug, "UNPLUG_SECONDS", 0.05)
    async with machine() as here:
        await here.plugged("disk")
        device, rig = here.fittings.devices[0], here.rigs[0]
        device.gate.clear()
        rig.queue(0).offer([b"slow"], [16])
        await trio.to_thread.run_sync(device.serving.wait, WITHIN)
        with pytest.raises(CommandError, match='"disk" is busy'):
            await here.inventory.unplug("disk")
        assert here.occupied() == {"disk": 0}
        device.gate.set()
        await here.inventory.unplug("disk")
        assert [used.data for used in rig.queue(0).collect()] == [b"slow"]
        assert here.events == [DeviceDeleted("disk")]

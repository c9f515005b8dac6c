"""Stand-ins for what a session sees of the world: a machine's control interface, and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from stratovirt.errors import CommandError
from stratovirt.machine.balloon import BalloonInfo, GuestStatistics
from stratovirt.machine.chardevs import ChardevRequest
from stratovirt.machine.control import RunState
from stratovirt.machine.events import (
    Cause,
    DeviceDeleted,
    Event,
    EventBus,
    PowerdownRequested,
    Resumed,
    ShutDown,
    Stopped,
    WasReset,
)
from stratovirt.machine.info import ChardevInfo, MachineInfo, Topology, VcpuInfo
from stratovirt.machine.inventory import (
    BlockNode,
    DeviceRequest,
    DiskInfo,
    IoThreadInfo,
    Netdev,
    NetworkInfo,
    PluggedDevice,
)
from stratovirt.machine.migration import MigrationInfo, MigrationStatus, RamProgress
from stratovirt.qmp.catalog import Catalog, MachineType, OptionInfo, Parameter, TypeInfo
from stratovirt.qmp.flow import Throttle
from stratovirt.qmp.handler import Reply
from stratovirt.qmp.server import QmpServer
from tests.protocol.client import Client

Duplex = trio.abc.HalfCloseableStream

INFO = MachineInfo(
    name="vm1",
    uuid="550e8400-e29b-41d4-a716-446655440000",
    accelerator="kvm",
    memory=256 << 20,
    vcpus=4,
    topology=Topology(sockets=2, cores=2, threads=2),
)
CATALOG = Catalog(
    machines=(MachineType("microvm", 254, is_default=True),),
    options=(OptionInfo("name", (Parameter("guest", "string", "NAME"),)), OptionInfo("kernel")),
    types=(
        TypeInfo("accel", "object", abstract=True),
        TypeInfo("kvm-accel", "accel"),
        TypeInfo("device", "object", abstract=True),
        TypeInfo("virtio-rng-device", "device", properties=(Parameter("rng", "string", "ID"),)),
    ),
    kvm_present=True,
)


class FakeInventory:
    """Carries everything out, and remembers what was asked."""

    def __init__(self, events: EventBus) -> None:
        self.asked: list[object] = []
        self._events = events

    async def add_block_node(self, node: BlockNode) -> None:
        self.asked.append(node)

    async def remove_block_node(self, name: str) -> None:
        self.asked.append(name)

    async def add_netdev(self, netdev: Netdev) -> None:
        self.asked.append(netdev)

    async def remove_netdev(self, id: str) -> None:
        self.asked.append(id)

    async def plug(self, request: DeviceRequest) -> None:
        self.asked.append(request)

    async def plug_console(self, id: str, chardev: str) -> None:
        self.asked.append((id, chardev))

    async def unplug(self, id: str) -> None:
        self.asked.append(id)
        self._events.publish(DeviceDeleted(id))

    def devices(self) -> list[PluggedDevice]:
        return []

    def disks(self) -> list[DiskInfo]:
        return []

    def networks(self) -> list[NetworkInfo]:
        return []

    def iothreads(self) -> list[IoThreadInfo]:
        return []

    def block_nodes(self) -> list[BlockNode]:
        return []


class FakeChardevs:
    """Character devices that are nothing but what is said of them."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self._all = [ChardevInfo("serial0", "stdio", in_use=True), ChardevInfo("spare", "null", in_use=False)]

    async def add(self, request: ChardevRequest) -> ChardevInfo:
        self.asked.append(request)
        return ChardevInfo(request.id, "pty:/dev/pts/9" if request.kind == "pty" else request.kind, False)

    async def remove(self, id: str) -> None:
        self.asked.append(id)

    def list(self) -> list[ChardevInfo]:
        return self._all

    def read(self, id: str, size: int) -> bytes:
        return (b"\xff" if id == "binary" else b"login: ")[:size]


class FakeBalloon:
    """A guest that has at once what it is to have."""

    def __init__(self) -> None:
        self.actual = 2 << 30
        self.statistics: GuestStatistics | None = None

    async def resize(self, size: int) -> None:
        self.actual = size

    def info(self) -> BalloonInfo:
        return BalloonInfo(self.actual, self.statistics)


class FakeMigration:
    """Snapshots that are complete at once."""

    def __init__(self) -> None:
        self.info = MigrationInfo()
        self.asked: list[str] = []
        self.cancelled = 0

    async def save(self, directory: str) -> None:
        self.asked.append(directory)
        self.info = MigrationInfo(MigrationStatus.COMPLETED, RamProgress(2 << 30, 0, 1 << 20), 7)

    def cancel(self) -> None:
        self.cancelled += 1


class FakeControl:
    """A machine that is nothing but its run state, and what it says of itself.

    :ivar gate: what changes the machine waits here first; open unless a test closes it.
    :ivar quit_asked: set by ``quit``.
    """

    def __init__(self) -> None:
        self.state = RunState.RUNNING
        self.crash_reason: str | None = None
        self.events = EventBus()
        self.inventory = FakeInventory(self.events)
        self.balloon = FakeBalloon()
        self.chardevs = FakeChardevs()
        self.migration = FakeMigration()
        self.info = INFO
        self.memory: dict[int, int] = {}  # words by address
        self._turn = trio.Lock()
        self.gate = trio.Event()
        self.gate.set()
        self.quit_asked = trio.Event()

    async def vcpus(self) -> list[VcpuInfo]:
        return [VcpuInfo(number, 4_194_304 + number, halted=True) for number in range(self.info.vcpus)]

    def read_memory(self, gpa: int, length: int) -> bytes:
        if gpa not in self.memory:
            raise CommandError(f"query-mem-gpa: guest address {gpa:#x} is not in RAM")
        return self.memory[gpa].to_bytes(length, "little")

    async def stop(self) -> None:
        await self._change("stop", RunState.RUNNING, RunState.PAUSED, Stopped())

    async def cont(self) -> None:
        await self._change("cont", RunState.PAUSED, RunState.RUNNING, Resumed())

    async def reset(self) -> None:
        await self._change("system_reset", self.state, self.state, WasReset(Cause.HOST_QMP_SYSTEM_RESET))

    async def powerdown(self) -> None:
        await self._change("system_powerdown", RunState.RUNNING, RunState.RUNNING, PowerdownRequested())

    def quit(self) -> None:
        self.quit_asked.set()

    async def _change(self, command: str, before: RunState, after: RunState, event: Event) -> None:
        async with self._turn:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
            if self.state is not before:
                raise CommandError(f"{command}: the machine is in state {self.state.value}")
            self.state = after
            self.events.publish(event)


class RecordingStream(trio.abc.HalfCloseableStream):
    """The server's end of a connection that remembers each send."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.sends: list[bytes] = []
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Supervision:
    """What the nursery tree does for QMP: a server, and a nursery for the clients it accepts."""

    def __init__(self, nursery: trio.Nursery, server: QmpServer, control: FakeControl) -> None:
        self.control = control
        self.server = server
        self.nursery = nursery

    async def connect(
        self,
        *,
        throttle: Throttle = Throttle.DELAY,
        pair: Callable[[], tuple[Duplex, Duplex]] = trio.testing.memory_stream_pair,
    ) -> tuple[Client, RecordingStream]:
        """A client that has read its greeting, and the server's end of its connection."""
        near, far = pair()
        recorded = RecordingStream(far)
        serve = self.server.serve_client
        self.nursery.start_soon(lambda: serve(recorded, throttle=throttle))
        client = Client(near)
        await client.greeting()
        return client, recorded

    async def client(self, throttle: Throttle = Throttle.DELAY) -> Client:
        """A client that has read its greeting."""
        return (await self.connect(throttle=throttle))[0]


async def monitor_line(line: str) -> Reply:
    """A human monitor that knows one line."""
    return Reply("VM status: running\r\n" if line == "info status" else f"unknown command: '{line}'\r\n")


async def carry_out_quit(control: FakeControl, server: QmpServer) -> None:
    """Two-phase shutdown, as the supervisor does it."""
    await control.quit_asked.wait()
    await server.flushed()
    control.events.publish(ShutDown(Cause.HOST_QMP_QUIT))
    await server.close()


@asynccontextmanager
async def supervised(**options: int) -> AsyncIterator[Supervision]:
    """A server for a fake machine; every session is cancelled at the end."""
    control = FakeControl()
    server = QmpServer(control, catalog=CATALOG, human_monitor=monitor_line, **options)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        yield Supervision(nursery, server, control)
        await server.close(0)
        nursery.cancel_scope.cancel()

"""Every example of StratoVirt's QMP manual, sent as it stands to a machine with a Linux guest.

One guest hears the whole story; then each example is held against what was answered. The examples come from
schemas/, so that none can be forgotten. Put in are only paths, and what an example needs and the manual does
not tell: what was there before, and a descriptor.
"""

from __future__ import annotations

import json
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio

from stratovirt.errors import ConfigError
from stratovirt.qmp import schemas
from stratovirt.testing import Vm, VmOptions, launched
from stratovirt.testing.options import default_initrd, default_kernel
from tests.network import namespace
from tests.network.guests import carrier
from tests.protocol.client import Client
from tests.protocol.sockets import connected, send_with

Message = dict[str, Any]
Transcript = list[Message]

CONTRACT = schemas.load()
EXAMPLES: dict[tuple[str, int], Transcript] = {
    (name, number): example["transcript"]
    for name, schema in CONTRACT.commands.items()
    for number, example in enumerate(each for each in schema["examples"] if each.get("source") == "manual")
}
"""By command, and number among the command's examples."""
STORY = (
    *("query-status", "stop", "cont", "getfd"),
    *("blockdev-add", "blockdev-del"),
    *("netdev_add", "device_add", "device_del", "netdev_del"),
    *("chardev-add", "chardev-remove"),
    *("balloon", "query-balloon"),
)
"""The commands, in an order in which each finds what it needs."""
LAST = ("migrate", "query-migrate", "quit")
"""Those after which there is no guest to speak of."""
OF_THE_STANDARD_VM = ("DEVICE_UNPLUG_GUEST_ERROR",)
"""Events that no microvm has."""

MEMORY = 2147483648  # the balloon's value in the manual, all of it
SMALL = MEMORY - (16 << 20)
WITHIN = 120  # seconds


class Player:
    """Sends the manual's requests, and keeps what comes back."""

    def __init__(self, vm: Vm, client: Client, files: Path) -> None:
        self.vm = vm
        self.client = client
        self.files = files
        self._paths = {
            "/path/to/block": str(files / "block"),
            "/path/to/socket": str(files / "socket"),
            "file:path/to/template": f"file:{files}/template",
        }
        self._played: Counter[str] = Counter()
        self.heard: dict[tuple[str, int], Transcript] = {}

    async def play(self, name: str) -> None:
        """The next example of ``name``: as many messages are read as the manual shows."""
        which = (name, self._played[name])
        self._played[name] += 1
        self.heard[which] = []
        for step in EXAMPLES[which]:
            if "client" in step:
                await self._send(name, self._with_paths(step["client"]))
            else:
                self.heard[which].append(await self.client.next())

    def _with_paths(self, said: Any) -> Any:
        if isinstance(said, dict):
            return {key: self._with_paths(value) for key, value in said.items()}
        return self._paths.get(said, said) if isinstance(said, str) else said

    async def _send(self, name: str, request: Message) -> None:
        data = json.dumps(request).encode()
        if name == "getfd":
            with socket.socket() as anything:
                await send_with(self.client, data, [anything.fileno()], name)
        else:
            await self.client.send(data, name)

    async def ask(self, name: str, **arguments: Any) -> None:
        """A command that the manual's examples need besides."""
        assert await self.client.execute(name, arguments) == {"return": {}}

    async def event(self, name: str, **data: Any) -> None:
        """Wait for an event."""
        with trio.fail_after(WITHIN):
            while (message := await self.client.next())["event"] != name or message["data"] != data:
                pass


@asynccontextmanager
async def a_disk_image(player: Player) -> AsyncIterator[None]:
    (player.files / "block").write_bytes(bytes(1 << 20))
    yield


@asynccontextmanager
async def a_listener(player: Player) -> AsyncIterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(player.files / "socket"))
        listener.listen()
        yield


@asynccontextmanager
async def a_link_that_comes_up(player: Player) -> AsyncIterator[None]:
    (await player.vm.run("ip link set eth0 up")).check()
    yield
    await carrier(player.vm, "1")


@asynccontextmanager
async def a_link_that_goes_down(player: Player) -> AsyncIterator[None]:
    yield
    await carrier(player.vm, "0")


@asynccontextmanager
async def a_small_guest_that_grows(player: Player) -> AsyncIterator[None]:
    await player.ask("balloon", value=SMALL)
    await player.event("BALLOON_CHANGED", actual=SMALL)
    yield
    await player.event("BALLOON_CHANGED", actual=MEMORY)


@asynccontextmanager
async def a_machine_that_is_paused(player: Player) -> AsyncIterator[None]:
    await player.ask("stop")
    yield


NEEDS: dict[str, Callable[[Player], AbstractAsyncContextManager[None]]] = {
    "blockdev-add": a_disk_image,
    "chardev-add": a_listener,
    "device_add": a_link_that_comes_up,
    "device_del": a_link_that_goes_down,
    "balloon": a_small_guest_that_grows,
    "migrate": a_machine_that_is_paused,
}
"""What an example finds and leaves in the world around it."""


async def story(command: tuple[str, ...]) -> Player:
    """All of it, with one guest; it has powered off when this returns."""
    balloon = ("-device", "virtio-balloon-device,id=balloon0")
    options = VmOptions(memory=f"{MEMORY >> 20}", accel="tcg", command=command, options=balloon)
    with tempfile.TemporaryDirectory(prefix="stratovirt-") as files:
        async with launched(options) as vm:
            await vm.booted()
            async with connected(vm.directory / "qmp.sock") as client:
                player = Player(vm, client, Path(files))
                await tell(player, STORY)
                await player.ask("system_powerdown")
                await vm.console.type("reboot -f")
                await player.event("RESET", guest=True, reason="guest-reset")
                await tell(player, LAST)
            assert await vm.exit_code() == 0
    return player


async def tell(player: Player, names: tuple[str, ...]) -> None:
    for name in names:
        async with NEEDS[name](player) if name in NEEDS else nullcontext():
            await player.play(name)


@pytest.fixture(scope="module")
def told() -> Player:
    """The story, told once."""
    try:
        default_initrd(default_kernel().image)
    except ConfigError as error:
        pytest.skip(str(error))
    with namespace() as net:
        net.add_tap("tap0")
        return trio.run(story, net.stratovirt)


def without_time(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != "timestamp"}


def told_by(heard: Any, manual: Any) -> Any:
    """Of what was heard, that of which the manual tells: query-migrate's reply says more."""
    if isinstance(heard, dict) and isinstance(manual, dict):
        return {key: told_by(value, manual[key]) for key, value in heard.items() if key in manual}
    return heard


@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_an_example_of_the_manual_is_answered_as_the_manual_says(
    told: Player, name: str, number: int
) -> None:
    manual = [step["server"] for step in EXAMPLES[name, number] if "server" in step]
    assert (name, number) in told.heard, f"{name} is missing in the story"
    heard = told.heard[name, number]
    assert len(heard) == len(manual)
    for ours, theirs in zip(heard, manual, strict=True):
        assert told_by(without_time(ours), without_time(theirs)) == without_time(theirs)


@pytest.mark.parametrize("name", sorted(CONTRACT.events.keys() - {*OF_THE_STANDARD_VM}))
def test_an_event_is_sent_as_its_example_says(told: Player, name: str) -> None:
    events = [without_time(event) for event in told.client.events]
    for example in CONTRACT.events[name]["examples"]:
        assert without_time(example) in events

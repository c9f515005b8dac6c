"""Networks for tests: namespaces that the test makes itself, and peers within them.

Nothing here touches the network of the host that runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import TypeVar

import pytest
import trio

from stratovirt.testing.process import COMMAND

HOST, GUEST = "10.99.0.1", "10.99.0.2"
UPLINK, GATEWAY = "10.98.0.2", "10.98.0.1"
T = TypeVar("T")
_numbers = count()


class Namespace:
    """A network namespace of its own, with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *arguments: str) -> tuple[str, ...]:
        """argv that runs ``arguments`` within."""
        return ("ip", "netns", "exec", self.name, *arguments)

    @property
    def stratovirt(self) -> tuple[str, ...]:
        """How StratoVirt is called within."""
        return self.command(*COMMAND)

    def run(self, *arguments: str) -> str:
        """Run a command within; its output."""
        return subprocess.run(
            self.command(*arguments), check=True, capture_output=True, text=True, timeout=30
        ).stdout

    def ip(self, arguments: str) -> str:
        """Run ip(8) within."""
        return self.run("ip", *arguments.split())

    def add_tap(self, name: str, address: str | None = f"{HOST}/24", options: str = "") -> None:
        """A persistent tap that is up."""
        self.ip(f"tuntap add {name} mode tap {options}")
        if address is not None:
            self.ip(f"address add {address} dev {name}")
        self.ip(f"link set dev {name} up")

    def add_uplink(self) -> None:
        """An interface with a default route, from which user networking takes the guest's addresses."""
        self.add_tap("uplink", f"{UPLINK}/24")
        self.ip(f"route add default via {GATEWAY}")

    def call(self, function: Callable[[], T]) -> T:
        """Call ``function`` on a thread that is within."""
        results: list[T] = []

        def body() -> None:
            with open(f"/run/netns/{self.name}") as namespace:
                _set_namespace(namespace.fileno())
            results.append(function())

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        [result] = results
        return result

    @asynccontextmanager
    async def peer(
        self, what: str, size: int = 0, *, listen: str = HOST, port: int = 5001
    ) -> AsyncIterator[trio.Process]:
        """``tests.network.peer`` listening within; it prints a line when it is done (:func:`last_line`)."""
        argv = self.command(sys.executable, "-m", "tests.network.peer", what, listen, str(port), str(size))
        process = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE)
        try:
            assert await _line(process) == "listening"
            yield process
        finally:
            process.kill()
            assert process.stdout is not None
            await process.stdout.aclose()
            await process.wait()


async def last_line(peer: trio.Process, *, seconds: float = 60) -> str:
    """What a peer says of its transfer: bytes and their SHA-256."""
    with trio.fail_after(seconds):
        return await _line(peer)


async def _line(process: trio.Process) -> str:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        more = await process.stdout.receive_some(1)
        assert more, f"the peer has ended after {text!r}"
        text += more
    return text.decode().strip()


def _set_namespace(fd: int) -> None:
    import ctypes

    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).setns(fd, clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace for the block; skips the test of a user who may not make one."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("network namespaces with taps need root and /dev/net/tun")
    space = Namespace(f"stratovirt-test-{os.getpid()}-{next(_numbers)}")
    subprocess.run(["ip", "netns", "add", space.name], check=True)
    try:
        space.ip("link set lo up")
        yield space
    finally:
        subprocess.run(["ip", "netns", "delete", space.name], check=True)

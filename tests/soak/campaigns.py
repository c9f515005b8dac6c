"""What is soaked, and how often."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from tests import guests
from tests.system.vm import Vm, guest_options, started

Check = Callable[[int, Path], Awaitable[None]]
"""Runs round ``number`` in an empty directory; raises if it fails."""

MEMORY = ("128M", "256M", "1G", "6G")
STOP_CONT_PAIRS = 1000
REBOOTS = 50
BOOT_SECONDS = 180
STRESS_SECONDS = 600
PROMPT = b"# "
# What Linux prints when it finds its clocks wrong.
COMPLAINTS = (
    b"Marking clocksource",
    b"Timekeeping watchdog",
    b"rcu: INFO",
    b"soft lockup",
    b"clocksource watchdog",
)


@dataclass(frozen=True)
class Campaign:
    """A check and the number of rounds that have to pass, all of them."""

    name: str
    rounds: int
    check: Check


def campaigns() -> Iterator[Campaign]:
    """All of them, the quick ones first."""
    for flavour in ("cloud", "generic"):
        for cpus in (1, 2, 4):
            yield Campaign(f"boot {flavour} -smp {cpus}", 20, partial(_boot, flavour, cpus))
    for cpus in (1, 2):
        yield Campaign(f"stress -smp {cpus}", 10, partial(_test, "stress", cpus))
    for cpus in (2, 4):
        yield Campaign(f"smp -smp {cpus}", 10, partial(_test, "smp", cpus))
    yield Campaign(f"{REBOOTS} reboots in a row", 1, _reboots)
    for cpus in (1, 2):
        yield Campaign(f"{STOP_CONT_PAIRS} stop/cont pairs -smp {cpus}", 1, partial(_stop_cont, cpus))


def _start(t: str, directory: Path, *options: str, flavour: str = "cloud") -> AbstractAsyncContextManager[Vm]:
    kernel = guests.cloud_kernel() if flavour == "cloud" else guests.generic_kernel()
    boot = guest_options(kernel, guests.initramfs(kernel), directory, t)
    return started(*boot, *options, directory=directory)


async def _boot(flavour: str, cpus: int, number: int, directory: Path) -> None:
    """Userspace is reached and the guest powers off, with another size of RAM each round."""
    memory = MEMORY[number % len(MEMORY)]
    async with _start("up", directory, "-smp", str(cpus), "-m", memory, flavour=flavour) as vm:
        async with vm.console() as console:
            await console.expect(b"GUEST-UP", seconds=BOOT_SECONDS)
            assert f"smp: Brought up 1 node, {cpus} CPU".encode() in console.text
        assert await vm.exit_code(BOOT_SECONDS) == 0


async def _test(t: str, cpus: int, _number: int, directory: Path) -> None:
    """The guest's own test passes."""
    async with _start(t, directory, "-smp", str(cpus)) as vm:
        async with vm.console() as console:
            await console.expect(f"{t.upper()}-OK".encode(), seconds=STRESS_SECONDS)
        assert await vm.exit_code() == 0


async def _reboots(_number: int, directory: Path) -> None:
    """The guest reboots again and again, each time for real."""
    async with _start("reboot", directory) as vm, vm.console() as console, vm.qmp() as qmp:
        for _ in range(REBOOTS):
            await console.expect(b"GUEST-UP", seconds=BOOT_SECONDS)
            await qmp.wait_event("RESET")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def _stop_cont(cpus: int, number: int, directory: Path) -> None:
    """A busy guest is stopped and resumed; then the stress test passes, and no clock has complained."""
    chance = random.Random(number)
    async with _start("shell", directory, "-smp", str(cpus)) as vm:
        async with vm.console() as console, vm.qmp() as qmp:
            await console.expect(PROMPT, seconds=BOOT_SECONDS)
            await console.type("(while :; do :; done) &")
            for _ in range(STOP_CONT_PAIRS):
                await qmp.execute("stop")
                await trio.sleep(chance.uniform(0, 0.01))
                await qmp.execute("cont")
            await console.type("kill $!; t=stress sh /init")
            await console.expect(b"STRESS-OK", seconds=STRESS_SECONDS)
        assert await vm.exit_code() == 0
    for complaint in COMPLAINTS:
        assert complaint not in console.text

"""The checks that campaigns repeat, each on the platform that it is told."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests import guests
from tests.system.vm import Vm, guest_options, started

MEMORY = ("128M", "256M", "1G", "6G")
BOOT_SECONDS = 600  # takes 2; nested KVM on a busy host 200
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
class Platform:
    """What the guest runs on, and how it can tell."""

    accel: str
    is_kvm: bool = False
    append: str = ""
    """What this platform needs on the kernel command line."""


TCG = Platform("tcg")


def _start(
    platform: Platform, t: str, directory: Path, *options: str, flavour: str = "cloud"
) -> AbstractAsyncContextManager[Vm]:
    kernel = guests.cloud_kernel() if flavour == "cloud" else guests.generic_kernel()
    boot = guest_options(
        kernel, guests.initramfs(kernel), directory, t, append=platform.append, accel=platform.accel
    )
    return started(*boot, *options, directory=directory)


async def boot(platform: Platform, flavour: str, cpus: int, number: int, directory: Path) -> None:
    """Userspace is reached and the guest powers off, with another size of RAM each round."""
    memory = MEMORY[number % len(MEMORY)]
    async with _start(platform, "up", directory, "-smp", str(cpus), "-m", memory, flavour=flavour) as vm:
        async with vm.console() as console:
            await console.expect(b"GUEST-UP", seconds=BOOT_SECONDS)
            assert f"smp: Brought up 1 node, {cpus} CPU".encode() in console.text
            assert (b"Hypervisor detected: KVM" in console.text) == platform.is_kvm
        assert await vm.exit_code(BOOT_SECONDS) == 0


async def guest_test(platform: Platform, t: str, cpus: int, _number: int, directory: Path) -> None:
    """The guest's own test passes."""
    async with _start(platform, t, directory, "-smp", str(cpus)) as vm:
        async with vm.console() as console:
            await console.expect(f"{t.upper()}-OK".encode(), seconds=STRESS_SECONDS)
        assert await vm.exit_code() == 0


async def reboots(platform: Platform, count: int, _number: int, directory: Path) -> None:
    """The guest reboots again and again, each time for real."""
    async with _start(platform, "reboot", directory) as vm, vm.console() as console, vm.qmp() as qmp:
        for _ in range(count):
            await console.expect(b"GUEST-UP", seconds=BOOT_SECONDS)
            await qmp.wait_event("RESET")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


async def stop_cont(platform: Platform, pairs: int, cpus: int, number: int, directory: Path) -> None:
    """A busy guest is stopped and resumed; then the stress test passes, and no clock has complained."""
    chance = random.Random(number)
    async with _start(platform, "shell", directory, "-smp", str(cpus)) as vm:
        async with vm.console() as console, vm.qmp() as qmp:
            await console.expect(PROMPT, seconds=BOOT_SECONDS)
            await console.type("(while :; do :; done) &")
            for _ in range(pairs):
                await qmp.execute("stop")
                await trio.sleep(chance.uniform(0, 0.01))
                await qmp.execute("cont")
            await console.type("kill $!; t=stress sh /init")
            await console.expect(b"STRESS-OK", seconds=STRESS_SECONDS)
        assert await vm.exit_code() == 0
    for complaint in COMPLAINTS:
        assert complaint not in console.text


async def snapshots(platform: Platform, count: int, cpus: int, _number: int, directory: Path) -> None:
    """A busy guest goes on from each snapshot; the stress test passes, and no clock has complained."""
    snapshot = directory / "snapshot"
    options = ["-smp", str(cpus)]
    for life in range(count + 1):
        async with _start(platform, "shell", directory, *options) as vm:
            async with vm.console() as console, vm.qmp() as qmp:
                if life == 0:
                    await console.expect(PROMPT, seconds=BOOT_SECONDS)
                    await console.type("(while :; do :; done) &")
                await console.type(f"echo life $(({life}))")
                await console.expect(f"life {life}\r\n".encode(), seconds=BOOT_SECONDS)
                if life < count:
                    await qmp.execute("migrate", uri=f"file:{snapshot}")
                    await qmp.execute("quit")
                else:
                    await console.type("kill $!; t=stress sh /init")
                    await console.expect(b"STRESS-OK", seconds=STRESS_SECONDS)
            assert await vm.exit_code() == 0
        for complaint in COMPLAINTS:
            assert complaint not in console.text
        options = ["-smp", str(cpus), "-incoming", f"file:{snapshot}"]

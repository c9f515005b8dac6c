"""What is soaked, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.soak import checks, devices, disks, nested, network, sanitized, snapshots

Check = Callable[[int, Path], Awaitable[None]]
"""Runs round ``number`` in an empty directory; raises if it fails."""

STOP_CONT_PAIRS = 1000
REBOOTS = 50
BALLOON_MOVES = 30
CONSOLE_ROUNDS = 20
VSOCK_CONNECTIONS = 1000
HOT_PLUGS = 100
FILE_SYSTEM_ROUNDS = 5
NESTED_ROUNDS = 3
SANITIZED_ROUNDS = 3
TRANSFER_ROUNDS = 3
SNAPSHOT_KILLS = 200
SNAPSHOTS = 50
TEMPLATE_MACHINES = 20


@dataclass(frozen=True)
class Campaign:
    """A check and the number of rounds that have to pass, all of them."""

    name: str
    rounds: int
    check: Check


def campaigns() -> Iterator[Campaign]:
    """All of them: on the software CPU, the quick ones first, then on KVM."""
    for flavour in ("cloud", "generic"):
        for cpus in (1, 2, 4):
            yield Campaign(f"boot {flavour} -smp {cpus}", 20, partial(checks.boot, checks.TCG, flavour, cpus))
    for cpus in (1, 2):
        yield Campaign(f"stress -smp {cpus}", 10, partial(checks.guest_test, checks.TCG, "stress", cpus))
    for cpus in (2, 4):
        yield Campaign(f"smp -smp {cpus}", 10, partial(checks.guest_test, checks.TCG, "smp", cpus))
    yield Campaign(f"{REBOOTS} reboots in a row", 1, partial(checks.reboots, checks.TCG, REBOOTS))
    for cpus in (1, 2):
        name = f"{STOP_CONT_PAIRS} stop/cont pairs -smp {cpus}"
        yield Campaign(name, 1, partial(checks.stop_cont, checks.TCG, STOP_CONT_PAIRS, cpus))
    yield Campaign(f"{BALLOON_MOVES} balloon moves", 2, partial(devices.balloon, BALLOON_MOVES))
    yield Campaign("console login and paste", CONSOLE_ROUNDS, devices.console)
    for way in disks.WAYS:
        name = f"{HOT_PLUGS} hot plugs of 3 disks, {way}"
        yield Campaign(name, 1, partial(disks.hot_plug, disks.WAYS[way], HOT_PLUGS))
    for cache in disks.CACHES:
        yield Campaign(f"file system, {cache}", FILE_SYSTEM_ROUNDS, partial(disks.file_system, cache))
    yield Campaign("256 MiB both ways over a tap", TRANSFER_ROUNDS, network.over_tap)
    yield Campaign("256 MiB both ways over passt", TRANSFER_ROUNDS, network.over_passt)
    yield Campaign(f"{VSOCK_CONNECTIONS} vsock connections", 2, partial(devices.vsock, VSOCK_CONNECTIONS))
    rounds = SNAPSHOT_KILLS // snapshots.KILLS
    yield Campaign(f"{SNAPSHOT_KILLS} kills of a snapshot's writer", rounds, snapshots.writers_killed)
    yield Campaign(f"{SNAPSHOT_KILLS} kills of a machine in a snapshot", rounds, snapshots.machines_killed)
    for cpus in (1, 2):
        yield Campaign(f"{SNAPSHOTS} snapshots -smp {cpus}", 1, partial(snapshots.work, SNAPSHOTS, cpus))
    machines = TEMPLATE_MACHINES
    yield Campaign(f"{machines} machines of one template", 1, partial(snapshots.template, machines))
    yield Campaign("address sanitizer", SANITIZED_ROUNDS, sanitized.passes)
    for name in nested.CHECKS:
        yield Campaign(f"nested kvm: {name}", NESTED_ROUNDS, partial(nested.passes, name))

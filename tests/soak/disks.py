"""Disks at full size and in full number; the checks are those of the system tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests import guests
from tests.system import test_disks, test_hot_plug
from tests.system.vm import guest_options

WAYS = {"manual": test_hot_plug.MANUAL, "kata": test_hot_plug.KATA}
CACHES = {"cached": "", "direct": ",direct=on"}
FILE_MIB = 200
"""On a disk of 256 MiB."""


async def hot_plug(ways: list[dict[str, Any]], rounds: int, _number: int, directory: Path) -> None:
    """Disks come, are used and go, while the guest reads another."""
    await test_hot_plug.disks_come_and_go(_options(directory), directory, ways, rounds)


async def file_system(cache: str, _number: int, directory: Path) -> None:
    """A file system that is nearly full is whole on the host after `quit`."""
    await test_disks.file_system_is_whole(_options(directory), directory, CACHES[cache], FILE_MIB)


def _options(directory: Path) -> Callable[..., list[str]]:
    """As the fixture ``guest`` of the system tests."""
    kernel = guests.cloud_kernel()
    boot = partial(guest_options, kernel, guests.initramfs(kernel), directory)
    return lambda test, *more: [*boot(test), *more]

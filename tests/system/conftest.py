"""Guests for the system tests; a host that cannot fetch a kernel skips, and says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from tests import guests


def _or_skip(find: Callable[[], Path]) -> Path:
    try:
        return find()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cloud_kernel() -> Path:
    return _or_skip(guests.cloud_kernel)


@pytest.fixture(scope="session")
def generic_kernel() -> Path:
    return _or_skip(guests.generic_kernel)


@pytest.fixture(scope="session")
def cloud_initrd(cloud_kernel: Path) -> Path:
    return _or_skip(lambda: guests.initramfs(cloud_kernel))


@pytest.fixture(scope="session")
def generic_initrd(generic_kernel: Path) -> Path:
    return _or_skip(lambda: guests.initramfs(generic_kernel))


@pytest.fixture
def guest(cloud_kernel: Path, cloud_initrd: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Options that boot the cloud kernel into the test ``t``, with sockets in ``tmp_path``."""
    from tests.system.vm import guest_options

    def options(t: str, *more: str, append: str = "", monitors: tuple[str, ...] = ("qmp",)) -> list[str]:
        boot = guest_options(cloud_kernel, cloud_initrd, tmp_path, t, append=append, monitors=monitors)
        return [*boot, *more]

    return options

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stratovirt.memory import GuestMemory

RAM = 128 << 20


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    """128 MiB of RAM."""
    ram = GuestMemory.allocate(RAM)
    yield ram
    ram.close()

"""Both accelerators, for tests of guests without an operating system."""

from __future__ import annotations

import pytest

from tests.guests.bare import skip_without


@pytest.fixture(params=["tcg", "kvm"])
def accel(request: pytest.FixtureRequest) -> str:
    """An accelerator that this host has."""
    skip_without(request.param)
    return str(request.param)

"""The default guest; a host that cannot fetch a kernel skips, and says why."""

from __future__ import annotations

import pytest

from stratovirt.errors import ConfigError
from stratovirt.testing import VmOptions
from tests import guests


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> VmOptions:
    """The default guest, kept where all tests keep theirs."""
    from stratovirt.testing.options import default_initrd, default_kernel

    monkeypatch.setenv("STRATOVIRT_GUEST_DIR", str(guests.cache_directory()))
    try:
        default_initrd(default_kernel().image)
    except ConfigError as error:
        pytest.skip(str(error))
    return VmOptions(accel="tcg")

"""What a network backend cannot have is refused in words that say why, and nothing of it stays open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.machine.inventory import Netdev
from stratovirt.nursery import netcards
from stratovirt.nursery.helpers import Helpers


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing", "No such file or directory"), ("there", "is there, but its use is not built yet")],
)
def test_vhost_is_refused_by_what_the_host_lacks_or_we_do(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / name
    (tmp_path / "there").touch()
    monkeypatch.setattr(netcards, "VHOST_NET", str(device))
    tap, vhost = os.pipe()
    with pytest.raises(ConfigError, match=f"vhost=on: {device}.*{why}.*leave vhost out"):
        netcards.open_netdev(Netdev("n0", fds=(tap,), vhost=True, vhostfds=(vhost,)), Helpers())
    for fd in (tap, vhost):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

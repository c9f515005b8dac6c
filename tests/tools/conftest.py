"""A host of our own making: no KERNEL, no /boot, and apt replaced by scripts on PATH."""

from pathlib import Path

import pytest

from stratovirt.tools import kernels
from tests.tools.samples import Calls, Command


@pytest.fixture(autouse=True)
def _bare_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KERNEL", "STRATOVIRT_GUEST_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    monkeypatch.setattr(kernels, "BOOT", tmp_path / "boot")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "commands").mkdir()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Put a shell script on PATH; every call of it is one line in ``calls``."""

    def install(name: str, script: str) -> None:
        path = tmp_path / "commands" / name
        log = tmp_path / "calls"
        path.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho "{name} $*" >>{log}\n{script}\n')
        path.chmod(0o755)

    return install


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    """The commands that ran, with their arguments."""
    log = tmp_path / "calls"
    return lambda: log.read_text().splitlines() if log.exists() else []

"""The choice between accelerators: what was asked for, what the host can do, and the line that says why."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stratovirt.accel import choose
from stratovirt.accel.choose import Choice
from stratovirt.accel.kvm import probe, system
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.memory import GuestMemory
from tests.accel.guests import RecordingBus

ANYWHERE = "kvm:tcg"


@pytest.fixture
def not_pvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choose, "EMULATING_MODULE", tmp_path / "kvm_pvm")


def python(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_tcg_alone_needs_nothing_of_the_host() -> None:
    assert str(choose.choose("tcg")) == "accelerator: tcg (as asked for)"


def test_no_implementation_is_imported_before_it_is_needed() -> None:
    loaded = python(
        "import sys; from stratovirt.accel import choose; choose.choose('tcg');"
        "parts = ('stratovirt.accel.kvm', 'stratovirt.accel.tcg');"
        "print([name for name in sys.modules if name.startswith(parts)])"
    )
    assert loaded == "[]"


def test_emulating_kvm_is_recognised_without_a_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choose, "EMULATING_MODULE", tmp_path)
    monkeypatch.setattr(probe, "runs_kernels_natively", lambda: pytest.fail("probed"))
    choice = choose.choose(ANYWHERE)
    assert choice.name == "tcg"
    assert "emulates guest kernels" in str(choice)


@pytest.mark.usefixtures("not_pvm")
@pytest.mark.parametrize(("native", "name"), [(True, "kvm"), (False, "tcg")])
def test_probe_decides(monkeypatch: pytest.MonkeyPatch, native: bool, name: str) -> None:
    monkeypatch.setattr(probe, "runs_kernels_natively", lambda: native)
    assert choose.choose(ANYWHERE).name == name


@pytest.mark.usefixtures("not_pvm")
def test_missing_device_means_tcg_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "DEVICE", "/dev/no-kvm")
    assert choose.choose(ANYWHERE) == Choice("tcg", "/dev/no-kvm does not exist on this host")


def test_kvm_alone_is_refused_where_the_device_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "DEVICE", "/dev/no-kvm")
    with pytest.raises(AcceleratorUnavailable, match=r"^/dev/no-kvm does not exist on this host$"):
        choose.choose("kvm")


def test_kvm_alone_is_refused_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbid)
    with pytest.raises(AcceleratorUnavailable, match=r"^no permission for /dev/kvm: join the group"):
        choose.choose("kvm")


def test_device_that_is_not_kvm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "DEVICE", "/dev/null")
    with pytest.raises(AcceleratorUnavailable, match=r"^/dev/null is not a KVM device$"):
        choose.choose("kvm")


def test_other_api_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "DEVICE", "/dev/null")
    monkeypatch.setattr(system, "ioctl", lambda *_: 11)
    with pytest.raises(AcceleratorUnavailable, match=r"^/dev/null has API version 11, not 12$"):
        choose.choose("kvm")


def test_unknown_name_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="xen"):
        choose.choose("xen")


@pytest.mark.parametrize("name", ["kvm", "tcg"])
def test_missing_extension_is_one_line_that_says_what_to_run(name: str) -> None:
    printed = python(
        f"import sys; sys.modules['stratovirt.accel.{name}._{name}'] = None\n"
        "from stratovirt.accel import choose\n"
        "from stratovirt.errors import AcceleratorUnavailable\n"
        f"try: choose.create(choose.Choice('{name}', ''), None, 1, None)\n"
        "except AcceleratorUnavailable as error: print(error)"
    )
    assert printed.startswith(f"accelerator {name} is not built (")
    assert printed.endswith("): run 'make setup'")
    assert "\n" not in printed


@pytest.mark.usefixtures("not_pvm")
def test_missing_kvm_extension_means_tcg_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("stratovirt.accel.kvm.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "stratovirt.accel.kvm._kvm", None)
    choice = choose.choose(ANYWHERE)
    assert choice.name == "tcg"
    assert choice.reason.startswith("accelerator kvm is not built")


@pytest.fixture
def need_kvm() -> None:
    try:
        system.KvmSystem().close()
    except AcceleratorUnavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("need_kvm")
def test_kvm_alone_is_granted_even_where_it_emulates() -> None:
    assert choose.choose("kvm") == Choice("kvm", "as asked for")


@pytest.mark.usefixtures("need_kvm")
def test_create_makes_what_was_chosen() -> None:
    memory = GuestMemory.allocate(1 << 20)
    accelerator = choose.create(Choice("kvm", ""), memory, 1, RecordingBus())
    assert accelerator.name == "kvm"
    accelerator.close()
    memory.close()


@pytest.mark.usefixtures("need_kvm")
def test_probe_agrees_with_what_is_known_of_this_host() -> None:
    assert probe.runs_kernels_natively() is not choose.EMULATING_MODULE.exists()


@pytest.mark.usefixtures("need_kvm")
@pytest.mark.parametrize(
    ("seconds", "native"),
    [
        ([0.0001], True),
        ([0.026, 0.0001], True),
        ([0.026, 0.026, 0.0001], True),
        ([0.026, 0.026, 0.026], False),
        ([10.0, 0.026, 10.0], False),
    ],
)
def test_one_attempt_in_time_decides(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], native: bool
) -> None:
    """Delays of a busy host may come at any attempt; an emulator is in time at none."""
    monkeypatch.setattr(probe, "time", Clock(seconds))
    assert probe.runs_kernels_natively() is native


class Clock:
    """A clock on which the attempts took ``seconds``."""

    def __init__(self, seconds: list[float]) -> None:
        self._ticks = iter([tick for taken in seconds for tick in (0.0, taken)])

    def perf_counter(self) -> float:
        return next(self._ticks)

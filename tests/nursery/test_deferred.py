"""A deferred module is loaded by its first use, once, and is then as if it had been imported."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from stratovirt.nursery.deferred import defer

NAME = "a_module_that_is_deferred"
SECONDS = 20.0


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)


def deferred(path: Path, code: str) -> ModuleType:
    path.write_text(code)
    defer(NAME)
    return import_module(NAME)


def test_nothing_of_it_runs_before_its_first_use(write: Path) -> None:
    marker = write.with_suffix(".ran")
    module = deferred(write, f"open({str(marker)!r}, 'x').close()\nvalue = 1\n")
    assert not marker.exists()
    assert module.value == 1
    assert marker.exists()


def test_from_import_loads_it(write: Path) -> None:
    deferred(write, "value = 1\n")
    scope: dict[str, object] = {}
    exec(f"from {NAME} import value", scope)
    assert scope["value"] == 1


def test_an_attribute_that_it_lacks_is_missing_before_and_after(write: Path) -> None:
    module = deferred(write, "value = 1\n")
    for _ in range(2):
        with pytest.raises(AttributeError, match="missing"):
            _ = module.missing


def test_its_own_getattr_is_left_to_it(write: Path) -> None:
    module = deferred(write, "def __getattr__(name):\n    return name.upper()\n")
    assert [module.first, module.second] == ["FIRST", "SECOND"]


def test_its_own_code_does_not_find_what_it_has_not_defined_yet(write: Path) -> None:
    code = f"import sys\nfound = hasattr(sys.modules[{NAME!r}], 'value')\nvalue = 1\n"
    assert deferred(write, code).found is False


def test_who_comes_second_from_another_thread_waits_for_all_of_it(write: Path) -> None:
    code = (
        "import a_barrier\n"
        "a_barrier.loading.set()\n"
        "assert not a_barrier.second_is_back.wait(0.05)\n"
        "value = 1\n"
    )
    barrier = ModuleType("a_barrier")
    loading = barrier.__dict__["loading"] = threading.Event()
    back = barrier.__dict__["second_is_back"] = threading.Event()
    sys.modules["a_barrier"] = barrier
    module = deferred(write, code)

    def second() -> int:
        assert loading.wait(SECONDS)
        value = int(module.value)
        back.set()
        return value

    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(second)
        assert module.value == 1
        assert answer.result(SECONDS) == 1
    del sys.modules["a_barrier"]

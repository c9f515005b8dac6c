"""Only the library that the glue was written for is used, and it is refused in one sentence otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stratovirt.accel.tcg import library
from stratovirt.errors import AcceleratorUnavailable


def test_the_library_is_found_without_importing_unicorn() -> None:
    code = (
        "import sys; from stratovirt.accel.tcg import library; library.load();"
        "print([name for name in sys.modules if name.startswith('unicorn')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_another_library_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "libunicorn.so.2"
    other.write_bytes(Path(sys.executable).resolve().read_bytes())
    monkeypatch.setattr(library, "_find", lambda: other)
    with pytest.raises(AcceleratorUnavailable, match="is not the library of the unicorn"):
        library.load.__wrapped__()


def test_a_file_that_is_no_library_has_no_build_id(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"", b"\x7fELF", b"no ELF at all" * 10):
        file.write_bytes(content)
        assert library.build_id(file) is None


def test_a_library_that_is_loaded_already_is_refused() -> None:
    code = (
        "import unicorn; from stratovirt.accel.tcg import library\n"
        "try: library.load()\n"
        "except Exception as problem: print(type(problem).__name__, problem)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("AcceleratorUnavailable")
    assert "loaded already" in result.stdout


def test_the_frequency_of_the_tsc_is_measured_once() -> None:
    assert library.load() == library.load()
    assert library.load() > 100_000_000

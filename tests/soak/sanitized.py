"""The C modules under AddressSanitizer, built with it in a scratch directory.

They are held to hostile guests and to their own tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import trio

PROJECT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", "schemas", "tests")
FLAGS = "-fsanitize=address -fno-omit-frame-pointer -g -O1"
TESTS = ("tests/security", "tests/device", "tests/accel", "tests/memory", "tests/chardev", "tests/migration")


async def passes(number: int, directory: Path) -> None:
    """Everything passes, each round with another seed for Hypothesis; a bad access ends its process."""
    project = directory / "project"
    await trio.to_thread.run_sync(_copy, project)
    packages = await _build(project, directory)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(f"--hypothesis-seed={number}", *TESTS),
    ]
    done = await trio.run_process(
        command,
        cwd=project,
        env=_environment(packages),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    report = done.stdout.decode(errors="replace")
    print(report)
    assert done.returncode == 0, report[-2000:]
    assert "AddressSanitizer" not in report


def _copy(project: Path) -> None:
    for name in SOURCES:
        source = PROJECT / name
        if source.is_dir():
            built = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
            shutil.copytree(source, project / name, symlinks=True, ignore=built)
        else:
            project.mkdir(exist_ok=True)
            shutil.copy(source, project / name)


async def _build(project: Path, directory: Path) -> Path:
    """Where the package lies with its instrumented extensions; the project's own source gives way to it."""
    environment = {**os.environ, "CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address"}
    wheels = directory / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(wheels),
        str(project),
    ]
    await trio.run_process(command, env=environment)
    [wheel] = wheels.glob("*.whl")
    packages = directory / "packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    extensions = list(packages.rglob("*.so"))
    assert extensions
    for extension in extensions:
        assert b"__asan_report" in extension.read_bytes(), f"{extension.name} is not instrumented"
    shutil.rmtree(project / "src")
    return packages


def _environment(packages: Path) -> dict[str, str]:
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    # Python itself leaks at exit by design.
    return {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(packages),
        "STRATOVIRT_GUEST_DIR": os.environ.get("STRATOVIRT_GUEST_DIR", str(PROJECT / ".guest")),
    }

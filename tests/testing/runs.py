"""pytest runs of other people: a folder with a test file, and an installation that has the plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SECONDS = 120


def run_pytest(directory: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``test`` in a folder of its own, with nothing but the registered entry point to find the plugin."""
    (directory / "test_guest.py").write_text(test)
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    install(directory / "site")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory / "site"), *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def install(site: Path) -> None:
    """Register the entry points of pyproject.toml, as an installation would."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    metadata = site / f"stratovirt_under_test-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: stratovirt-under-test\nVersion: {project['version']}\n"
    )
    entries = project["entry-points"]["pytest11"]
    lines = ["[pytest11]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def section(report: str, title: str) -> list[str]:
    """The lines of a failure's section, without empty ones."""
    found = re.search(rf"^-+ {title} -+$(.*?)^(---|===)", report, re.DOTALL | re.MULTILINE)
    return [line for line in found[1].splitlines() if line] if found else []


def examples() -> list[str]:
    """The Python examples of docs/testing.md."""
    page = (PROJECT / "docs/testing.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

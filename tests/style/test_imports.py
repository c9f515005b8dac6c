"""Imports point downward only, as each package's docstring says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stratovirt

ROOT = Path(stratovirt.__file__).parent

# What each package may import of ours besides itself and ``errors``. docs/architecture.md gives the reasons.
MAY_IMPORT = {
    "vmstate": set(),
    "memory": set(),
    "native": set(),
    "migration": {"memory", "native", "vmstate"},
    "accel": {"memory", "vmstate"},
    "boot": {"memory", "accel"},
    "backends": set(),
    "devices": {"memory", "native", "accel", "backends", "vmstate"},
    "machine": {"memory", "native", "accel", "boot", "devices", "vmstate"},
    "chardev": {"native"},
    "qmp": {"machine"},
    "cli": set(),
    "client": {"qmp"},
    "hmp": {"qmp", "machine"},
    "tools": {"client", "migration", "vmstate"},
    "testing": {"client", "tools"},
    "zygote": {"accel", "chardev", "nursery", "qmp"},
    "nursery": {
        *("memory", "native", "accel", "boot", "backends", "devices", "machine", "chardev"),
        *("migration", "vmstate", "qmp", "hmp", "cli"),
    },
}
# Modules of a package that may be seen from outside where the package may not.
DOORS = {
    "stratovirt.machine": {  # all that qmp sees
        "stratovirt.machine.balloon",
        "stratovirt.machine.chardevs",
        "stratovirt.machine.control",
        "stratovirt.machine.events",
        "stratovirt.machine.info",
        "stratovirt.machine.inventory",
        "stratovirt.machine.migration",
    },
    "stratovirt.qmp": {"stratovirt.qmp.protocol"},  # all that client sees
    # All that boot and devices see.
    "stratovirt.accel": {
        "stratovirt.accel.features",
        "stratovirt.accel.protocol",
        "stratovirt.accel.topology",
    },
    "stratovirt.backends": {"stratovirt.backends.disk.contract"},  # all that devices see
}
NO_TRIO = {
    "cli",
    "vmstate",
    "memory",
    "native",
    "accel",
    "boot",
    "backends",
    "devices",
    "machine",
    "migration",
    "tools",
    "qmp/protocol",
}


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    wrong = []
    for path in modules(package):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "stratovirt" or len(parts) < 2 or not (ROOT / parts[1]).is_dir():
                continue
            if parts[1] not in MAY_IMPORT[package] | {package}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "door"),
    [("qmp", "machine"), ("boot", "accel"), ("devices", "accel"), ("devices", "backends"), ("client", "qmp")],
)
def test_a_package_sees_its_lower_neighbour_only_through_the_door(package: str, door: str) -> None:
    doors = DOORS[f"stratovirt.{door}"]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.startswith(f"stratovirt.{door}.")
        and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in doors)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", sorted(NO_TRIO))
def test_packages_below_the_tree_do_not_import_trio(package: str) -> None:
    assert modules(package), "the package exists"
    assert [str(path) for path in modules(package) for name in imports(path) if name == "trio"] == []


@pytest.mark.parametrize(
    "package", sorted({path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()})
)
def test_each_package_opens_with_what_lives_there(package: str) -> None:
    module = ast.parse((ROOT / package / "__init__.py").read_text())
    assert len((ast.get_docstring(module) or "").split()) >= 10


def test_only_the_tree_starts_threads() -> None:
    """Threads are trio.to_thread's, and only the nursery asks for them."""
    starters = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("Thread", "to_thread", "ThreadPoolExecutor")
    ]
    assert {name.split("/")[0] for name in starters} <= {"nursery"}


def test_a_boot_is_planned_and_claimed_before_trio_is_loaded() -> None:
    """The modules of a machine only name it; to define a class on one of trio's would load it too early."""
    script = (
        "import sys\n"
        "from stratovirt.__main__ import main\n"
        "assert main(['-kernel', '/nonexistent', '-initrd', '/nonexistent']) == 1\n"
        "assert 'stratovirt.nursery.launch' in sys.modules\n"
        "from stratovirt.chardev import pty, sinks, stdio, tcp, unix\n"
        "early = {'trio._core', 'outcome._impl', '_posixsubprocess', '_hashlib'} & set(sys.modules)\n"
        "assert not early, early\n"
        "import trio\n"
        "assert trio.Event() is not None and 'trio._core' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

"""Reading a command line is cheap: nothing that acts, and nothing heavy, comes with it."""

import subprocess
import sys

UNWANTED = {
    "trio",
    "asyncio",
    "argparse",
    "socket",
    "difflib",
    "ipaddress",
    "uuid",
    "dataclasses",
    "cffi",
    "jsonschema",
}


def modules_after(statement: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after ``statement``."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_reading_a_command_line_loads_nothing_heavy() -> None:
    loaded = modules_after("from stratovirt.cli import parse; parse(['-kernel', 'vmlinux', '-smp', '2'])")
    assert "stratovirt.cli.parse" in loaded
    assert not loaded & UNWANTED


def test_only_the_exceptions_are_known_of_the_rest_of_the_package() -> None:
    loaded = modules_after("import stratovirt.cli")
    others = {
        name for name in loaded if name.startswith("stratovirt.") and not name.startswith("stratovirt.cli")
    }
    assert others == {"stratovirt.errors"}

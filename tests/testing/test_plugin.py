"""People who install the plugin get what docs/testing.md says, in pytest runs of their own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stratovirt.testing
from tests.testing.runs import examples, run_pytest, section


@pytest.mark.usefixtures("options")
def test_the_example_of_the_page_works_when_pasted(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, examples()[0])
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


@pytest.mark.usefixtures("options")
def test_a_failure_shows_the_serial_log_the_transcript_and_stderr(tmp_path: Path) -> None:
    test = examples()[0].replace('== "paused"', '== "on fire"')
    test = test.replace("@pytest.mark.trio", '@pytest.mark.vm(options=("-sandbox", "on"))\n@pytest.mark.trio')
    run = run_pytest(tmp_path, test)
    assert run.returncode == 1, run.stdout
    console = section(run.stdout, "guest console")
    assert "Linux version" in console[0]
    assert "Linux" in console[1:], "what the test's last command printed"
    transcript = section(run.stdout, "QMP transcript")
    assert transcript[2:6] == ["-> stop {}", "<- STOP {}", "<- {}", "-> query-status {}"]
    assert "-sandbox" in section(run.stdout, "stratovirt stderr")[0]


@pytest.mark.usefixtures("options")
def test_a_guest_that_does_not_boot_shows_how_far_it_came(tmp_path: Path) -> None:
    mark = '@pytest.mark.vm(append="rdinit=/nowhere", options=("-no-reboot",))'
    run = run_pytest(tmp_path, f"import pytest\n\n{mark}\n@pytest.mark.trio\nasync def test(vm): ...\n")
    assert run.returncode == 1
    assert "the console ended before b'guest# '" in run.stdout
    assert any("Kernel panic" in line for line in section(run.stdout, "guest console"))


OVERRIDDEN = """
import pytest
from stratovirt.testing import VmOptions


@pytest.fixture
def vm_options():
    return VmOptions(options=("-S",), prompt=None, smp=2)


@pytest.mark.trio
async def test_frozen(vm, qmp, console):
    assert (await qmp.execute("query-status"))["status"] == "prelaunch"
    assert console is vm.console
    assert await console.silent(seconds=0.2)
    await qmp.execute("quit")
    assert await vm.exit_code() == 0
"""


@pytest.mark.usefixtures("options")
def test_a_folder_can_choose_its_guest_and_need_not_wait_for_a_shell(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, OVERRIDDEN)
    assert run.returncode == 0, run.stdout


def test_every_example_of_the_page_uses_names_that_there_are() -> None:
    names = set()
    for text in examples():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "stratovirt.testing":
                names.update(alias.name for alias in node.names)
    assert names <= set(stratovirt.testing.__all__)
    assert {"VmOptions", "launched", "check_qmp_server"} <= names
    assert all(getattr(stratovirt.testing, name) for name in stratovirt.testing.__all__)


def test_without_pytest_trio_a_test_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/pytest_trio.py").write_text("raise ImportError\n")
    hide = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: name != 'pytest_trio' and find(name, *more)\n"
    )
    (tmp_path / "site/sitecustomize.py").write_text(hide)
    run = run_pytest(tmp_path, "def test(vm): ...\n", "-p", "no:trio")
    assert run.returncode != 0
    assert "pip install 'stratovirt[testing]'" in run.stdout + run.stderr


def test_a_run_without_guests_loads_nothing_but_the_plugin() -> None:
    program = (
        "import sys, pytest, pytest_trio; before = set(sys.modules);"
        "import stratovirt.testing.plugin; print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stratovirt', 'stratovirt.testing', 'stratovirt.testing.plugin']"

"""The library's surface: its types are as stated, its names are there, the guide lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import stratovirt.client
from stratovirt.client import blocking
from tests.clients.servers import listening

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_mypy_agrees_with_the_stated_types() -> None:
    stated = Path(__file__).with_name("public_types.py")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(stated)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", stratovirt.client.__all__)
def test_every_public_name_is_there_and_in_the_guide(name: str) -> None:
    assert getattr(stratovirt.client, name).__doc__
    assert name in GUIDE


@pytest.mark.parametrize("example", EXAMPLES, ids=["trio", "blocking"])
async def test_the_guides_examples_work_when_pasted(example: str, tmp_path: Path) -> None:
    path = tmp_path / "vm.qmp"
    program = example.replace("/tmp/vm.qmp", str(path))
    async with listening(path):
        done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    first, second = done.stdout.decode().splitlines()
    assert first == "running"
    assert second.split()[0] == "STOP"


def test_the_blocking_client_has_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(stratovirt.client.QmpClient) <= methods(blocking.QmpClient)
    assert {"get", "waiting", "dropped"} <= methods(blocking.Subscription)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'QmpServer'"):
        _ = stratovirt.client.QmpServer

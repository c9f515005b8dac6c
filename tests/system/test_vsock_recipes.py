"""The recipes of docs/vsock.md work when they are pasted, on the host and in the guest."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from stratovirt.errors import ConfigError
from stratovirt.tools.debian import Debian
from stratovirt.tools.disk import PACKAGES
from tests.guests import cache_directory
from tests.recipes import Paste, recipes

PAGE = "vsock.md"
PYTHON = ("python3", "-c")


@pytest.fixture
def paste(cloud_kernel: Path, tmp_path: Path) -> Paste:
    """On a host that has what the recipes take."""
    if shutil.which("ncat") is None:
        pytest.skip("no ncat (Debian: ncat)")
    try:
        Debian(cache_directory()).unpack_with_needed([*PACKAGES, "socat"])
    except ConfigError as error:
        pytest.skip(str(error))
    return Paste(tmp_path)


async def test_the_recipes_lead_from_the_host_to_the_guest_and_back(paste: Paste) -> None:
    machine, echo, call, listen, say = recipes(PAGE)
    [program] = recipes(PAGE, "python")
    async with paste.guest(machine) as shell:
        (await shell.run(f"exec >/dev/null 2>&1; {echo}")).check()
        assert re.fullmatch(r"OK \d+\nhello\n", await called(paste, call))
        assert await trio.to_thread.run_sync(paste.run, program, PYTHON) == "b'hello\\n'\n"
        async with trio.open_nursery() as nursery:
            heard: list[str] = []

            async def hear() -> None:
                heard.append(await trio.to_thread.run_sync(paste.run, listen))

            nursery.start_soon(hear)
            (await shell.run(f"until {say.strip()} 2>/dev/null; do sleep 0.1; done")).check()
        assert heard == ["hello from the guest\n"]


async def called(paste: Paste, recipe: str) -> str:
    """What the recipe prints, once somebody in the guest listens."""
    while True:
        try:
            return await trio.to_thread.run_sync(paste.run, recipe)
        except subprocess.CalledProcessError:
            await trio.sleep(0.1)

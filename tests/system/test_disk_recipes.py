"""The recipes of docs/disks.md work when they are pasted, one after the other, into a shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from stratovirt.backends.disk.storage_daemon import PACKAGE, PROGRAM
from stratovirt.testing.process import END_SECONDS, open_socket
from tests.guests import cache_directory

PAGE = Path(__file__).parents[2] / "docs/disks.md"
SECONDS = 60


class Paste:
    """A directory in which the recipes of the page are pasted; ``stratovirt`` and the rest are on PATH."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
        self._environment = {**os.environ, "PATH": path, "STRATOVIRT_GUEST_DIR": str(cache_directory())}

    def run(self, recipe: str) -> str:
        """What a recipe that ends prints."""
        command = ["bash", "-ec", recipe]
        return subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        ).stdout

    @contextmanager
    def machine(self, recipe: str) -> Iterator[subprocess.Popen[bytes]]:
        """A recipe that ends with a machine, which is killed if it is still there in the end."""
        # exec: the shell's process becomes the machine.
        command = ["bash", "-ec", re.sub(r"^stratovirt ", "exec stratovirt ", recipe, flags=re.MULTILINE)]
        with subprocess.Popen(
            command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    async def shown(self, recipe: str, *follow: str) -> str:
        """Paste a machine, and what follows while it runs; what ``query-block`` says at the end."""
        with self.machine(recipe) as process:
            await (await open_socket(self._directory / "vm.qmp", check=lambda: _check(process))).aclose()
            for each in follow:
                await trio.to_thread.run_sync(self.run, each)
            disks = await trio.to_thread.run_sync(self.run, "stratovirt-qmp vm.qmp query-block")
            await trio.to_thread.run_sync(self.run, "stratovirt-qmp vm.qmp quit")
            assert await trio.to_thread.run_sync(process.wait, END_SECONDS) == 0
        return disks


def _check(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "the machine has ended"


def recipes() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def paste(tmp_path: Path, cloud_kernel: Path) -> Paste:
    """``cloud_kernel`` is what stratovirt-guest finds in the cache."""
    return Paste(tmp_path)


async def test_raw_images_and_hot_plug(paste: Paste) -> None:
    machine, plug, *_ = recipes()
    disks = await paste.shown(machine, plug)
    assert "data.img" in disks
    assert "more.img" not in disks, "it has gone again"


@pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("qemu-img") is None,
    reason=f"no {PROGRAM} ({PACKAGE}) or no qemu-img (qemu-utils)",
)
async def test_qcow2_iothread_and_throttle(paste: Paste) -> None:
    paste.run("truncate -s 64M data.img more.img")
    _, _, overlay, plug, shared, _ = recipes()
    disks = await paste.shown(overlay, plug)
    assert "overlay.qcow2" in disks
    assert "more.qcow2" in disks
    disks = await paste.shown(shared)
    assert all(image in disks for image in ("data.img", "more.img", "overlay.qcow2"))


async def test_a_block_device(paste: Paste) -> None:
    paste.run("truncate -s 64M more.img")
    *_, recipe = recipes()
    attach = recipe.splitlines()[0]
    try:
        device = paste.run(f"{attach}\necho $device").strip()
    except subprocess.CalledProcessError:
        pytest.skip("no loop devices here, or no right to them")
    paste.run(f"losetup --detach {device}")
    try:
        assert "/dev/loop" in await paste.shown(recipe)
    finally:
        paste.run("losetup --detach $(losetup --noheadings --output NAME --associated more.img)")

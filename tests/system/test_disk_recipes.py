"""The recipes of docs/disks.md work when they are pasted, one after the other, into a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stratovirt.backends.disk.storage_daemon import PACKAGE, PROGRAM
from tests.recipes import Paste, recipes

PAGE = "disks.md"


@pytest.fixture
def paste(tmp_path: Path, cloud_kernel: Path) -> Paste:
    """``cloud_kernel`` is what stratovirt-guest finds in the cache."""
    return Paste(tmp_path)


async def test_raw_images_and_hot_plug(paste: Paste) -> None:
    machine, plug, *_ = recipes(PAGE)
    disks = await paste.shown(machine, plug)
    assert "data.img" in disks
    assert "more.img" not in disks, "it has gone again"


@pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("qemu-img") is None,
    reason=f"no {PROGRAM} ({PACKAGE}) or no qemu-img (qemu-utils)",
)
async def test_qcow2_iothread_and_throttle(paste: Paste) -> None:
    paste.run("truncate -s 64M data.img more.img")
    _, _, overlay, plug, shared, _ = recipes(PAGE)
    disks = await paste.shown(overlay, plug)
    assert "overlay.qcow2" in disks
    assert "more.qcow2" in disks
    disks = await paste.shown(shared)
    assert all(image in disks for image in ("data.img", "more.img", "overlay.qcow2"))


async def test_a_block_device(paste: Paste) -> None:
    paste.run("truncate -s 64M more.img")
    *_, recipe = recipes(PAGE)
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

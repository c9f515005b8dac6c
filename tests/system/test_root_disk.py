"""A guest lives on the root disk of stratovirt-guest: it boots, keeps what is written, ends clean."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.testing.options import sockets
from stratovirt.tools import disk, initramfs
from stratovirt.tools.guest import publish
from stratovirt.tools.initramfs import find_busybox
from stratovirt.tools.kernels import Kernel
from tests.guests import cache_directory
from tests.system.vm import started

PROMPT = b"guest# "


@pytest.fixture
def root_disk(cloud_kernel: Path, tmp_path: Path) -> Path:
    try:
        return disk.build(cache_directory(), Kernel.at(cloud_kernel), tmp_path / "root.ext4")
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def initrd(cloud_kernel: Path, tmp_path: Path) -> Path:
    """The initramfs of ordinary users, not that of the tests."""
    image = initramfs.build(Kernel.at(cloud_kernel), find_busybox(cache_directory()))
    return publish(image, tmp_path / "initramfs")


async def test_debian_runs_from_the_disk_and_leaves_it_clean(
    cloud_kernel: Path, initrd: Path, root_disk: Path, tmp_path: Path
) -> None:
    options = ["-machine", "microvm,accel=tcg", "-kernel", str(cloud_kernel), "-initrd", str(initrd)]
    options += ["-append", "console=ttyS0 quiet root=/dev/vda", *sockets(tmp_path)]
    options += ["-drive", f"file={root_disk},id=root", "-device", "virtio-blk-device,drive=root"]
    async with started(*options, directory=tmp_path) as vm, vm.console() as console:
        await console.expect(PROMPT)
        await console.type("grep -c ' / ext4 rw' /proc/mounts; bash --version; ip -br link")
        said = await console.expect(PROMPT)
        assert b"\n1\r\nGNU bash, version 5" in said
        assert b"lo               UNKNOWN" in said
        await console.type("echo kept >/root/file; poweroff")
        await console.expect(b"Power down")
        assert await vm.exit_code() == 0
    checked = subprocess.run(["/sbin/e2fsck", "-fn", root_disk], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert "recovery" not in checked.stdout + checked.stderr
    read = subprocess.run(
        ["/sbin/debugfs", "-R", "cat /root/file", root_disk], capture_output=True, text=True
    )
    assert read.stdout == "kept\n"

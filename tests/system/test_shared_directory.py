"""A directory of the host's in a Linux guest, by virtiofsd: whole both ways, over resets, until that dies."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratovirt.client import QmpCommandError
from stratovirt.testing import Vm, VmOptions, launched
from stratovirt.tools.initramfs import find_busybox
from tests import guests

VIRTIOFSD = shutil.which(
    "virtiofsd", path=os.pathsep.join([os.environ["PATH"], "/usr/lib/qemu", "/usr/libexec"])
)
SIZE = 2 << 20
ROUNDS = 2
SHARED_MEMORY = "tcg,mem-share=on"
MOUNT = "mkdir -p /mnt && mount -t virtiofs share /mnt"

pytestmark = pytest.mark.skipif(VIRTIOFSD is None or os.geteuid() != 0, reason="no virtiofsd, or not root")


@contextmanager
def serving(directory: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    """virtiofsd with ``directory``; it listens before it says so on stderr."""
    options = ["-o", f"source={directory}", "-o", "sandbox=chroot"]
    command = [str(VIRTIOFSD), f"--socket-path={socket}", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"Waiting for vhost-user socket connection" in process.stderr.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "data").write_bytes(os.urandom(SIZE))
    return directory


async def test_files_are_shared_until_the_server_dies(
    cloud_kernel: Path, tmp_path: Path, directory: Path
) -> None:
    shutil.copy(find_busybox(guests.cache_directory()), directory / "busybox")
    socket = tmp_path / "fs.sock"
    options = VmOptions(
        kernel=cloud_kernel,
        initrd=guests.shell_initramfs(cloud_kernel),
        accel=SHARED_MEMORY,
        options=(
            *("-chardev", f"socket,id=fs,path={socket}"),
            *("-device", "vhost-user-fs-device,chardev=fs,tag=share"),
        ),
    )
    with serving(directory, socket) as server:
        async with launched(options) as vm, vm.qmp() as qmp:
            await vm.booted()
            (await vm.run(MOUNT)).check()
            for _ in range(ROUNDS):
                await files_are_whole_both_ways(vm, directory)
            await programs_run_from_it(vm, directory)
            with pytest.raises(QmpCommandError, match="the directory share is shared"):
                await qmp.execute("migrate", uri=f"file:{tmp_path}/snapshot")

            await qmp.execute("system_reset")
            await vm.console.expect(b"Linux version")
            await vm.booted()
            (await vm.run(MOUNT)).check()
            await files_are_whole_both_ways(vm, directory)

            server.kill()
            server.wait()
            await vm.console.type("ls /mnt")
            assert (await qmp.execute("query-status"))["running"]
            await qmp.execute("system_reset")
            await vm.console.expect(b"Linux version")
            await qmp.execute("quit")
            assert await vm.exit_code() == 0
            assert "share: the file server is lost" in vm.stderr()


async def files_are_whole_both_ways(vm: Vm, directory: Path) -> None:
    """The host's writes are the guest's, and the guest's the host's."""
    (directory / "data").write_bytes(data := os.urandom(SIZE))
    digest = hashlib.sha256(data).hexdigest()
    copy = (
        "rm -f /mnt/copy /tmp/copy; cat /mnt/data >/tmp/copy; cat /tmp/copy >/mnt/copy; sha256sum </tmp/copy"
    )
    assert (await vm.run(copy)).check().split()[0] == digest
    assert (directory / "copy").read_bytes() == data


async def programs_run_from_it(vm: Vm, directory: Path) -> None:
    """Also one that the host has replaced: no code of the old one is left."""
    for number in range(ROUNDS):
        (directory / "run").write_text(f"#!/mnt/busybox sh\necho run {number}\n")
        (directory / "run").chmod(0o755)
        (await vm.run("echo 3 >/proc/sys/vm/drop_caches")).check()
        assert (await vm.run("/mnt/run")).check() == f"run {number}\n"

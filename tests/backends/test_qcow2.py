"""qcow2 images are QEMU's own work: what we write, qemu-img reads, and the daemon never outlives us."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.storage_daemon import PACKAGE, PROGRAM, ServedDisk
from stratovirt.errors import ConfigError

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("qemu-img") is None,
    reason=f"no {PROGRAM} ({PACKAGE}) or no qemu-img (qemu-utils)",
)

MIB = 1 << 20
SECONDS = 30
WRITABLE = DiskOptions()


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, timeout=SECONDS)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, 8 * MIB)
    return path


def directly(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    return start()


@contextmanager
def served(image: Path, options: DiskOptions = WRITABLE) -> Iterator[ServedDisk]:
    disk = ServedDisk(str(image), "qcow2", options, directly)
    try:
        yield disk
    finally:
        disk.close()


def content(image: Path) -> bytes:
    raw = image.with_suffix(".raw")
    qemu_img("convert", "-O", "raw", image, raw)
    return raw.read_bytes()


def test_what_is_written_is_in_the_image(image: Path) -> None:
    data = os.urandom(3 * MIB)
    with served(image, DiskOptions(discard=True)) as disk:
        assert (disk.size, disk.read_only) == (8 * MIB, False)
        disk.write(512, [memoryview(data)[:1000], memoryview(data)[1000:]])
        disk.write_zeroes(512, 4096, unmap=True)
        disk.discard(7 * MIB, MIB)
        disk.flush()
        back = bytearray(len(data))
        disk.read(512, [memoryview(back)])
        assert back == bytes(4096) + data[4096:]
    assert content(image) == (bytes(512 + 4096) + data[4096:]).ljust(8 * MIB, b"\0")
    qemu_img("check", image)


def test_an_overlay_shows_its_backing_image(image: Path, tmp_path: Path) -> None:
    with served(image) as disk:
        disk.write(0, [memoryview(b"base" * 128)])
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", image, overlay)
    before = image.read_bytes()
    with served(overlay) as disk:
        back = bytearray(512)
        disk.read(0, [memoryview(back)])
        assert back == b"base" * 128
        disk.write(0, [memoryview(b"over" * 128)])
    assert content(overlay)[:512] == b"over" * 128
    assert image.read_bytes() == before


def refusal(path: Path, options: DiskOptions = WRITABLE) -> str:
    with pytest.raises(ConfigError) as caught:
        ServedDisk(str(path), "qcow2", options, directly)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == "No such file or directory"
    (tmp_path / "text").write_text("this is a text\n" * 1000)
    assert refusal(tmp_path / "text") == "Image is not in qcow2 format"


def test_an_image_in_use_is_refused(image: Path) -> None:
    with served(image):
        assert refusal(image) == 'in use by another program: Failed to get "write" lock'


def test_without_the_daemon_its_package_is_named(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert refusal(image) == (
        "format qcow2 needs qemu-storage-daemon, which is not installed; "
        "it is in the Debian package qemu-system-common"
    )


def test_a_read_only_image_is_served_read_only(image: Path) -> None:
    before = image.read_bytes()
    options = DiskOptions(read_only=True)
    with (
        served(image, options) as disk,
        served(image, options),
        pytest.raises(OSError, match="Invalid argument"),
    ):
        disk.write(0, [memoryview(bytes(512))])
    assert image.read_bytes() == before


def test_a_daemon_that_dies_makes_requests_fail(image: Path) -> None:
    with served(image) as disk:
        disk._process.kill()
        for _ in range(2):
            with pytest.raises(OSError, match=r"has ended|Broken pipe|reset"):
                disk.flush()


def test_who_waits_for_a_daemon_that_hangs_can_be_freed(image: Path) -> None:
    with served(image) as disk:
        disk.interrupt()
        with pytest.raises(OSError, match=r"has ended|Broken pipe"):
            disk.flush()


OPENS_AND_DIES = """
import os, signal, sys
from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.storage_daemon import ServedDisk
disk = ServedDisk(sys.argv[1], "qcow2", DiskOptions(), lambda start: start())
print(disk._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_daemon_dies_with_us_by_whatever_death(image: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-c", OPENS_AND_DIES, image], capture_output=True, timeout=SECONDS, check=False
    )
    pid = int(died.stdout)
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], SECONDS)[0], "it has ended"
    finally:
        os.close(fd)

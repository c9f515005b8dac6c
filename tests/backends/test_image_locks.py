"""An image that one machine writes to belongs to it alone, whether the other is ours or QEMU's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import open_raw
from stratovirt.errors import ConfigError

READER, WRITER = DiskOptions(read_only=True), DiskOptions()
QEMU = shutil.which("qemu-system-x86_64")
SECONDS = 30
HELLO, QUIT = b'{"execute":"qmp_capabilities"}\n', b'{"execute":"quit"}\n'


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@contextmanager
def held(image: Path, options: DiskOptions) -> Iterator[None]:
    disk = open_raw(str(image), options)
    try:
        yield
    finally:
        disk.close()


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (WRITER, WRITER, "in use by another program, which lets nobody else write"),
        (READER, WRITER, "in use by another program, which lets nobody else write"),
        (WRITER, READER, "in use by another program, which writes to it"),
    ],
)
def test_a_writer_shares_with_nobody(
    image: Path, first: DiskOptions, second: DiskOptions, reason: str
) -> None:
    with held(image, first):
        with pytest.raises(ConfigError) as caught:
            open_raw(str(image), second)
        assert str(caught.value) == f"{image}: {reason}"
    open_raw(str(image), second).close()


def test_readers_share(image: Path) -> None:
    with held(image, READER), held(image, READER):
        pass


def qemu(image: Path, mode: str) -> list[str]:
    assert QEMU is not None
    machine = ["-machine", "microvm", "-accel", "tcg", "-S", "-nodefaults", "-display", "none"]
    disk = ["-drive", f"id=d,file={image},format=raw,if=none{mode}", "-device", "virtio-blk-device,drive=d"]
    return [QEMU, *machine, *disk, "-qmp", "stdio"]


@pytest.mark.skipif(QEMU is None, reason="no QEMU")
@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [
        (WRITER, "", False),
        (WRITER, ",readonly=on", False),
        (READER, "", False),
        (READER, ",readonly=on", True),
    ],
)
def test_qemu_obeys_our_locks_and_we_obey_its(
    image: Path, ours: DiskOptions, theirs: str, shared: bool
) -> None:
    with held(image, ours):
        done = subprocess.run(
            qemu(image, theirs), input=HELLO + QUIT, capture_output=True, timeout=SECONDS, check=False
        )
        assert (b"lock" in done.stderr) is not shared, done.stderr
    with subprocess.Popen(qemu(image, theirs), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        try:
            other.stdin.write(HELLO)
            other.stdin.flush()
            assert b"QMP" in other.stdout.readline()
            assert b"return" in other.stdout.readline(), "its image is open by now"
            if shared:
                open_raw(str(image), ours).close()
            else:
                with pytest.raises(ConfigError, match="in use by another program"):
                    open_raw(str(image), ours)
        finally:
            other.kill()

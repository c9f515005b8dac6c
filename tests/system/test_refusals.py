"""Bad input is one line that names it, exit code 1, and no traceback."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.vm import command

SECONDS = 30


def refusal(*arguments: str) -> str:
    """The one line on stderr of a refused start."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("stratovirt: ")
    return lines[0]


@pytest.fixture
def raw_kernel(tmp_path: Path) -> str:
    """Something that may be a raw kernel, so that other mistakes come first."""
    path = tmp_path / "vmlinux.bin"
    path.write_bytes(b"\xf4" * 4096)
    return str(path)


def arm_elf(path: Path) -> None:
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 183, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0
    )
    path.write_bytes(header + bytes(4096))


def truncated_bzimage(path: Path) -> None:
    image = bytearray(8192)
    image[0x1F1] = 4
    struct.pack_into("<I", image, 0x1F4, 1 << 20)
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    path.write_bytes(image)


MAKE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "directory": Path.mkdir,
    "empty": Path.touch,
    "truncated bzImage": truncated_bzimage,
    "wrong-architecture ELF": arm_elf,
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_kernel_that_cannot_be_booted_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kernel"
    MAKE[kind](path)
    line = refusal("-machine", "microvm,accel=tcg", "-kernel", str(path))
    assert line.startswith(f"stratovirt: -kernel {path}: "), line
    if kind == "wrong-architecture ELF":
        assert "AArch64" in line


def test_an_initrd_bigger_than_ram_is_named(tmp_path: Path, raw_kernel: str) -> None:
    initrd = tmp_path / "initrd"
    with initrd.open("wb") as file:
        file.truncate(300 << 20)
    assert str(initrd) in refusal("-m", "256", "-accel", "tcg", "-kernel", raw_kernel, "-initrd", str(initrd))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["-m", "64"], "stratovirt: -m 64: size must be 128M to 512G"),
        (["-m", "1024G"], "stratovirt: -m 1024G: size must be 128M to 512G"),
        (["-kernle", "x"], "stratovirt: -kernle: unknown option; did you mean -kernel?"),
        (["-smp", "0"], "-smp 0"),
        (["-machine", "microvm"], "-kernel"),
        (["-qmp", "unix:/" + "x" * 200 + ",server,nowait", "-machine", "none"], "107"),
        (["-chardev", "null,id=a", "-chardev", "null,id=a"], "a"),
        (["-mon", "chardev=nobody,mode=control"], "nobody"),
        (["-kernel", "/dev/null", "-drive", "if=pflash,file=/dev/null"], "not built yet"),
        (["-kernel", "/dev/null", "-accel", "tcg"], "stratovirt: -kernel /dev/null: "),
    ],
)
def test_a_bad_option_is_named_with_what_is_wrong(arguments: list[str], wanted: str) -> None:
    assert wanted in refusal(*arguments)


def test_a_socket_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        line = refusal("-machine", "none", "-qmp", f"unix:{path},server,nowait")
    assert str(path) in line
    assert path.exists()


def test_a_file_that_is_no_socket_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert str(path) in refusal("-machine", "none", "-qmp", f"unix:{path},server,nowait")
    assert path.read_text() == "data"


@pytest.mark.skipif(os.path.exists("/dev/kvm"), reason="this host has /dev/kvm")
def test_kvm_alone_is_refused_where_it_is_missing(raw_kernel: str) -> None:
    assert "/dev/kvm" in refusal("-accel", "kvm", "-kernel", raw_kernel)


@pytest.mark.parametrize(
    ("cpu", "why"),
    [
        ("host,-avx512", "-cpu host,-avx512: no such feature; did you mean avx512f?"),
        ("host,-aes,+warp-drive", "-cpu host,+warp-drive: no such feature"),
        ("host,+avx512f", "accel tcg: the software CPU has no avx512f"),
    ],
)
def test_a_cpu_feature_that_cannot_be_had_is_named(raw_kernel: str, cpu: str, why: str) -> None:
    assert refusal("-accel", "tcg", "-cpu", cpu, "-kernel", raw_kernel) == f"stratovirt: {why}"


@pytest.mark.parametrize(
    ("machine", "tag", "why"),
    [
        ("microvm", "share", ": its server maps guest memory; add -machine mem-share=on"),
        (
            "mem-share=on",
            "share",
            ",chardev=c: must be a socket,path= that virtiofsd listens on, without server",
        ),
        ("mem-share=on", "s" * 37, f",tag={'s' * 37}: at most 36 bytes"),
    ],
)
def test_a_directory_that_cannot_be_shared_is_refused(
    raw_kernel: str, machine: str, tag: str, why: str
) -> None:
    device = ("-chardev", "null,id=c", "-device", f"vhost-user-fs-device,chardev=c,tag={tag}")
    line = refusal("-machine", machine, "-accel", "tcg", "-kernel", raw_kernel, *device)
    assert line == f"stratovirt: -device vhost-user-fs-device{why}"


def test_a_cpu_count_beyond_the_software_cpu_is_refused(raw_kernel: str) -> None:
    assert "16" in refusal("-accel", "tcg", "-smp", "17", "-kernel", raw_kernel)

"""An initramfs reaches a shell with its drivers loaded, and is the same bytes for the same arguments."""

import stat
from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel
from tests.tools.samples import Command, module_directory, read_cpio

MODULES = {"virtio": (), "virtio_mmio": ("virtio",), "button": (), "dummy": ()}
ROOT = "lib/modules/6.1.0-test/kernel"


@pytest.fixture
def busybox(tmp_path: Path, command: Command) -> Path:
    command("busybox", "echo busybox; echo sh; echo mount; echo insmod")
    return tmp_path / "commands/busybox"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "vmlinuz", module_directory(tmp_path, MODULES))


def test_the_same_arguments_give_the_same_bytes(kernel: Kernel, busybox: Path) -> None:
    assert build(kernel, busybox) == build(kernel, busybox)


def test_every_applet_is_a_link_and_the_usual_directories_lead_to_them(kernel: Kernel, busybox: Path) -> None:
    members = read_cpio(build(kernel, busybox))
    links = {name: member.data.decode() for name, member in members.items() if stat.S_ISLNK(member.mode)}
    assert links == {
        "bin/sh": "busybox",
        "bin/mount": "busybox",
        "bin/insmod": "busybox",
        "sbin": "bin",
        "usr/bin": "../bin",
        "usr/sbin": "../bin",
        "var/run": "../run",
    }


def test_scripts_are_executable_and_data_is_not(kernel: Kernel, busybox: Path) -> None:
    members = read_cpio(build(kernel, busybox))
    executable = {
        name for name, member in members.items() if stat.S_ISREG(member.mode) and member.mode & 0o111
    }
    assert executable == {
        "bin/busybox",
        "init",
        "etc/rc",
        "etc/acpi/PWRF/00000080",
        "etc/udhcpc/default.script",
    }


def test_userspace_announces_itself_before_anything_else(kernel: Kernel, busybox: Path) -> None:
    script = read_cpio(build(kernel, busybox))["init"].data.decode().splitlines()
    commands = [line for line in script if not line.startswith("#")]
    assert commands[0] == "echo GUEST-UP"


def test_modules_of_the_kernel_load_in_order_and_those_it_lacks_are_left_out(
    kernel: Kernel, busybox: Path
) -> None:
    members = read_cpio(build(kernel, busybox))
    order = [f"/{ROOT}/{name}.ko" for name in ("button", "virtio", "virtio_mmio")]
    assert members["etc/modules"].data.decode().split() == order
    assert all(path[1:] in members for path in order)
    assert "lib/modules/6.1.0-test/modules.dep" in members


def test_a_module_that_was_asked_for_is_loaded_too(kernel: Kernel, busybox: Path) -> None:
    members = read_cpio(build(kernel, busybox, modules=["dummy"]))
    assert members["etc/modules"].data.decode().split()[-1] == f"/{ROOT}/dummy.ko"


def test_a_module_that_was_asked_for_must_exist(kernel: Kernel, busybox: Path) -> None:
    with pytest.raises(ConfigError, match="no kernel module 'zfs'"):
        build(kernel, busybox, modules=["zfs"])


def test_a_kernel_without_modules_gets_an_empty_list(tmp_path: Path, busybox: Path) -> None:
    members = read_cpio(build(Kernel(tmp_path / "vmlinux", None), busybox))
    assert members["etc/modules"].data == b""


def test_files_and_directories_of_the_host_are_added(tmp_path: Path, kernel: Kernel, busybox: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/data").write_bytes(b"1")
    (tmp_path / "tree/tool").write_bytes(b"2")
    (tmp_path / "tree/tool").chmod(0o700)
    members = read_cpio(build(kernel, busybox, add=[(tmp_path / "tree", "/opt/tree")]))
    assert members["opt/tree/sub/data"].data == b"1"
    assert members["opt/tree/sub/data"].mode == stat.S_IFREG | 0o644
    assert members["opt/tree/tool"].mode == stat.S_IFREG | 0o755


def test_another_init_takes_the_place_of_ours(tmp_path: Path, kernel: Kernel, busybox: Path) -> None:
    (tmp_path / "mine").write_bytes(b"#!/bin/sh\n")
    members = read_cpio(build(kernel, busybox, init=tmp_path / "mine"))
    assert (members["init"].data, members["init"].mode) == (b"#!/bin/sh\n", stat.S_IFREG | 0o755)


@pytest.mark.parametrize("wrong", ["init", "add"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, kernel: Kernel, busybox: Path, wrong: str) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=r"/missing: No such file or directory$"):
        build(kernel, busybox, **({"init": missing} if wrong == "init" else {"add": [(missing, "/x")]}))


def test_a_busybox_that_is_no_static_program_is_not_taken(
    tmp_path: Path, busybox: Path, command: Command
) -> None:
    command("apt-cache", "echo busybox-static - Standalone rescue shell")
    command("apt-get", "for package; do :; done; echo >$package.deb")
    command("dpkg-deb", "mkdir -p $3/bin && echo >$3/bin/busybox")
    assert find_busybox(tmp_path / "cache") == tmp_path / "cache/busybox-static/bin/busybox"


def test_a_host_without_any_busybox_is_told_so(tmp_path: Path, command: Command) -> None:
    command("apt-cache", "")
    command("apt-get", "")
    with pytest.raises(ConfigError, match=r"^no static busybox: .*\(busybox-static\)$"):
        find_busybox(tmp_path / "cache")


def test_for_a_root_disk_only_what_mounts_it_is_loaded(kernel: Kernel, busybox: Path) -> None:
    members = read_cpio(build(kernel, busybox))
    order = [f"/{ROOT}/{name}.ko" for name in ("virtio", "virtio_mmio")]
    assert members["etc/modules-root"].data.decode().split() == order

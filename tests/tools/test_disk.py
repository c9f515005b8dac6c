"""A root disk holds what was asked for, is root's, and passes fsck; real mke2fs, packages of our own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from stratovirt.tools import disk
from stratovirt.tools.guest import main
from tests.tools.samples import Calls, Command, bzimage, module_directory

TOOLS = f"{os.environ['PATH']}:/usr/sbin:/sbin"
UNPACK = """
mkdir -p $3/bin $3/sbin $3/usr/bin $3/usr/sbin $3/usr/share/doc/x $3/etc
case ${2##*/} in
*busybox*) printf '#!/bin/sh\\necho bin/ls\\necho sbin/init\\n' >$3/bin/busybox && chmod 755 $3/bin/busybox ;;
*coreutils*) echo program >$3/bin/ls && ln -s ls $3/bin/dir ;;
esac
"""
APT = """
for word; do
    case "$* / $word" in
    */\\ install | */\\ download | */\\ [!a-z]*) ;;
    *--simulate*) echo "Inst $word (1 Debian)" ;;
    *) echo >$word.deb ;;
    esac
done
case $* in *--simulate*) echo 'Inst libneeded (1 Debian)' ;; esac
"""


@pytest.fixture
def kernel(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel with two modules; apt knows every package, and one that all need."""
    command("apt-get", APT)
    command("dpkg-deb", UNPACK)
    monkeypatch.setattr(disk, "SYSTEM_PATH", TOOLS)
    module_directory(tmp_path, {"virtio": (), "virtio_mmio": ("virtio",)})
    (tmp_path / "boot").mkdir()
    image = tmp_path / "boot/vmlinuz-mine"
    image.write_bytes(bzimage("6.1.0-test"))
    return image


def built(kernel: Path, *arguments: str) -> Path:
    cache = kernel.parents[1] / "cache"
    assert main(["disk", "--kernel", str(kernel), "--dir", str(cache), "--size", "16M", *arguments]) == 0
    return cache / "disk-vmlinuz-mine.ext4"


def debugfs(image: Path, request: str) -> str:
    command = ["debugfs", "-R", request, str(image)]
    environment = {"PATH": TOOLS, "DEBUGFS_PAGER": "cat"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_the_path_is_printed_and_the_image_is_clean(kernel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = built(kernel)
    assert capsys.readouterr().out == f"{image}\n"
    assert image.stat().st_size == 16 << 20
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True, env={"PATH": TOOLS})
    assert sorted(path.name for path in image.parent.iterdir() if path.is_file()) == [image.name]


def test_busybox_stands_in_for_what_no_package_has(kernel: Path) -> None:
    image = built(kernel)
    assert debugfs(image, "cat /bin/ls") == "program\n"
    assert 'Fast link dest: "/bin/busybox"' in debugfs(image, "stat /sbin/init")
    assert debugfs(image, "cat /etc/rc").startswith("#!/bin/sh\n")
    assert "0755" in debugfs(image, "stat /etc/rc")


def test_documentation_is_left_out(kernel: Path) -> None:
    assert "doc" not in debugfs(built(kernel), "ls /usr/share").split()


def test_modules_are_those_of_the_kernel_in_the_order_to_load_them(kernel: Path) -> None:
    image = built(kernel)
    assert debugfs(image, "cat /etc/modules") == "virtio\nvirtio_mmio\n"
    dependencies = debugfs(image, "cat /lib/modules/6.1.0-test/modules.dep")
    assert dependencies == "kernel/virtio.ko:\nkernel/virtio_mmio.ko: kernel/virtio.ko\n"


def test_files_and_directories_of_the_host_are_added(kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/one two").write_text("mine\n")
    image = built(kernel, "--add", f"{tmp_path / 'data'}=/srv/data", "--add", f"{kernel}=/boot/kernel")
    assert debugfs(image, 'cat "/srv/data/one two"') == "mine\n"
    assert re.search(r"Size: 4096$", debugfs(image, "stat /boot/kernel"), re.MULTILINE)


def test_everything_is_roots_whoever_built_it(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "my file"
    mine.write_text("mine\n")
    if os.geteuid() == 0:
        os.chown(mine, 1234, 1234)
        monkeypatch.setattr("shutil.copy", lambda source, path: os.rename(source, path))
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
    image = built(kernel, "--add", f"{mine}=/srv/my file")
    assert re.search(r"User: +0 +Group: +0 ", debugfs(image, 'stat "/srv/my file"'))
    assert re.search(r"User: +0 +Group: +0 ", debugfs(image, "stat /bin/dir")), (
        "a link, not what it points to"
    )


def test_packages_are_fetched_with_what_they_need_and_once(kernel: Path, calls: Calls) -> None:
    built(kernel, "--package", "gdb")
    [download] = [call for call in calls() if " download " in call]
    assert {"gdb", "libneeded", *disk.PACKAGES} <= set(download.split())
    before = [call for call in calls() if call.startswith("apt-get")]
    built(kernel, "--package", "gdb")
    assert [call for call in calls() if call.startswith("apt-get")] == before


def test_a_package_that_apt_does_not_know_is_named_after_a_look_into_fresh_lists(
    kernel: Path, command: Command, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        "apt-get",
        "case $* in *simulate*) echo 'E: Unable to locate package none' >&2; exit 100;; esac",
    )
    assert main(["disk", "--kernel", str(kernel), "--package", "none"]) == 1
    assert capsys.readouterr().err.endswith("Unable to locate package none\n")
    assert len([call for call in calls() if call.endswith(" update")]) == 1


def test_a_disk_that_is_too_small_is_refused_and_leaves_nothing(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    cache = tmp_path / "cache"
    arguments = ["--kernel", str(kernel), "--dir", str(cache), "--size", "4M"]
    assert main(["disk", *arguments, "--add", f"{tmp_path / 'big'}=/big"]) == 1
    assert re.search(r"^stratovirt-guest: mke2fs: .+$", capsys.readouterr().err, re.MULTILINE)
    assert [path for path in cache.iterdir() if "disk" in path.name] == []


def test_a_host_without_mke2fs_is_told_the_package(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "SYSTEM_PATH", "/none")
    assert main(["disk", "--kernel", str(kernel)]) == 1
    assert "mke2fs is not installed: apt-get install e2fsprogs" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "256", "-1M", "1T", "M"])
def test_sizes_have_a_unit(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["disk", f"--size={size}"])
    assert f"'{size}' is not a size such as 256M or 2G" in capsys.readouterr().err

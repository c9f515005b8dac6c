"""stratovirt-guest prints a path on stdout, and one line that names what was wrong on stderr."""

from pathlib import Path

import pytest

from stratovirt.tools.guest import cache_directory, main, publish
from tests.tools.samples import Command, bzimage, module_directory, read_cpio


@pytest.fixture
def kernel(tmp_path: Path, command: Command) -> Path:
    """A kernel with modules, and a busybox that needs no package."""
    command("apt-cache", "case $* in *busybox*) echo busybox-static - Standalone rescue shell; esac")
    command("apt-get", "for package; do :; done; echo >$package.deb")
    command(
        "dpkg-deb",
        "mkdir -p $3/bin && printf '#!/bin/sh\\necho sh\\n' >$3/bin/busybox && chmod 755 $3/bin/busybox",
    )
    module_directory(tmp_path, {"virtio_mmio": ()})
    (tmp_path / "boot").mkdir()
    image = tmp_path / "boot/vmlinuz-mine"
    image.write_bytes(bzimage("6.1.0-test"))
    return image


def test_kernel_prints_the_path_alone(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERNEL", str(kernel))
    assert main(["kernel"]) == 0
    assert capsys.readouterr().out == f"{kernel}\n"


def test_a_flavour_asks_for_debian_whatever_kernel_is_set(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERNEL", str(kernel))
    monkeypatch.setattr("stratovirt.tools.kernels.BOOT", tmp_path / "none")
    assert main(["kernel", "--flavour", "generic", "--dir", str(tmp_path / "cache")]) == 1
    assert "apt has no kernel for amd64" in capsys.readouterr().err


def test_initramfs_prints_where_it_wrote_an_archive_with_the_modules(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["initramfs", "--kernel", str(kernel), "--dir", str(tmp_path / "cache")]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "cache/initramfs-vmlinuz-mine.cpio"
    assert "lib/modules/6.1.0-test/kernel/virtio_mmio.ko" in read_cpio(path.read_bytes())


def test_initramfs_writes_and_adds_what_it_is_told(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.cpio"
    arguments = ["--kernel", str(kernel), "--dir", str(tmp_path / "cache"), "-o", str(output)]
    assert main(["initramfs", *arguments, "--add", f"{kernel}=/boot/kernel"]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert read_cpio(output.read_bytes())["boot/kernel"].data == kernel.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["initramfs", "--kernel", "/none"], "/none: No such file or directory"),
        (["kernel", "--dir", "/none"], "apt-cache is not installed"),
    ],
)
def test_an_error_is_one_line_and_status_1(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("stratovirt-guest: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_a_directory_that_cannot_be_written_is_named(
    kernel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["initramfs", "--kernel", str(kernel), "--dir", "/proc/none"]) == 1
    assert capsys.readouterr().err.endswith("stratovirt-guest: /proc/none: No such file or directory\n")


@pytest.mark.parametrize("value", ["file", "=/path", "file=relative"])
def test_what_add_wants_is_said(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["initramfs", "--add", value])
    assert f"'{value}' is not HOST=GUEST with an absolute path in the guest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"STRATOVIRT_GUEST_DIR": "/g", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/g"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/stratovirt/guest"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/stratovirt/guest"),
    ],
)
def test_guests_are_kept_where_the_environment_says(environment: dict[str, str], directory: str) -> None:
    assert cache_directory(environment) == Path(directory)


def test_an_image_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new/image"
    publish(b"one", target)
    assert publish(b"two", target).read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]

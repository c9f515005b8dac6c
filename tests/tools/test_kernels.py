"""The kernel we test with comes first; a host's own kernel last; modules are found beside the image."""

from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.tools.kernels import Kernel, any_kernel, debian_kernel
from tests.tools.samples import Command, bzimage

CLOUD = "6.1.0-56-cloud-amd64"


def install(root: Path, release: str) -> Path:
    """A kernel with modules as a package unpacks them."""
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / f"lib/modules/{release}").mkdir(parents=True)
    image = root / f"boot/vmlinuz-{release}"
    image.write_bytes(bzimage(release))
    return image


def test_modules_are_those_of_the_release_in_the_image_whatever_its_name(tmp_path: Path) -> None:
    image = install(tmp_path, CLOUD).rename(tmp_path / "boot/bzImage")
    assert Kernel.at(image) == Kernel(image, tmp_path / f"lib/modules/{CLOUD}")


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(1000), bzimage("5.4.0-elsewhere")])
def test_a_kernel_without_modules_here_has_none(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "kernel"
    image.write_bytes(content)
    assert Kernel.at(image).modules is None


def test_a_missing_kernel_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/none: No such file or directory$"):
        Kernel.at(tmp_path / "none")


def test_a_directory_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Is a directory$"):
        Kernel.at(tmp_path)


def test_an_unpacked_package_is_used_without_apt(tmp_path: Path) -> None:
    image = install(tmp_path / f"linux-image-{CLOUD}", CLOUD)
    assert debian_kernel("cloud", tmp_path).image == image


def test_the_newest_of_several_is_used(tmp_path: Path) -> None:
    install(tmp_path / "linux-image-6.1.0-9-cloud-amd64", "6.1.0-9-cloud-amd64")
    image = install(tmp_path / f"linux-image-{CLOUD}", CLOUD)
    assert debian_kernel("cloud", tmp_path).image == image


def test_the_generic_kernel_is_not_mistaken_for_the_cloud_one(tmp_path: Path) -> None:
    install(tmp_path / f"linux-image-{CLOUD}", CLOUD)
    generic = install(tmp_path / "linux-image-6.1.0-56-amd64", "6.1.0-56-amd64")
    assert debian_kernel("generic", tmp_path).image == generic


def test_debian_in_boot_is_used_before_a_download(tmp_path: Path) -> None:
    image = install(tmp_path, CLOUD)
    assert debian_kernel("cloud", tmp_path / "cache").image == image


def test_where_debian_cannot_be_had_the_host_kernel_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = install(tmp_path, "6.8.0-41-generic")
    with caplog.at_level("INFO"):
        assert any_kernel(tmp_path / "cache").image == image
    assert "apt-cache is not installed" in caplog.text


def test_where_there_is_no_kernel_at_all_the_reason_is_that_of_debian(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt-cache is not installed"):
        any_kernel(tmp_path / "cache")


def test_a_package_archive_without_the_kernel_says_so(tmp_path: Path, command: Command) -> None:
    command("apt-cache", "")
    command("apt-get", "")
    with pytest.raises(ConfigError, match=r"^apt has no kernel for cloud-amd64: "):
        debian_kernel("cloud", tmp_path / "cache")

"""A package is found in apt's lists, downloaded once, and unpacked whole or not at all."""

from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.tools.debian import Debian, version_key
from tests.tools.samples import Calls, Command

PATTERN = "linux-image-6[.]1[.]0-[0-9]+-cloud-amd64"
LISTING = """
echo 'linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)'
echo 'linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)'
echo 'linux-image-6.1.0-60-cloud-amd64-dbg - Debug symbols'
"""
DOWNLOAD = "for package; do :; done; echo archive >${package}_1_amd64.deb"
UNPACK = "mkdir -p $3/boot && cp $2 $3/boot/kernel"


@pytest.fixture
def debian(tmp_path: Path, command: Command) -> Debian:
    command("apt-cache", LISTING)
    command("apt-get", DOWNLOAD)
    command("dpkg-deb", UNPACK)
    return Debian(tmp_path / "cache")


def test_the_highest_version_is_the_newest(debian: Debian) -> None:
    assert debian.newest(PATTERN) == "linux-image-6.1.0-56-cloud-amd64"


def test_versions_are_compared_as_numbers() -> None:
    assert version_key("linux-image-6.1.0-9") < version_key("linux-image-6.1.0-56")


def test_empty_lists_are_fetched_into_the_cache(
    debian: Debian, command: Command, calls: Calls, tmp_path: Path
) -> None:
    command("apt-cache", f"[ -e {tmp_path}/updated ] || exit 0\n{LISTING}")
    command("apt-get", f"echo >{tmp_path}/updated")
    assert debian.newest(PATTERN) == "linux-image-6.1.0-56-cloud-amd64"
    assert f"Dir::State::Lists={tmp_path}/cache/apt/lists" in calls()[1]
    assert calls()[1].endswith("update")


def test_a_package_that_no_list_has_is_none(debian: Debian, command: Command) -> None:
    command("apt-cache", "")
    assert debian.newest(PATTERN) is None


def test_a_metapackage_names_the_package_of_today(debian: Debian, command: Command) -> None:
    command("apt-cache", "echo linux-image-cloud-amd64; echo '  Depends: linux-image-6.12.1-cloud-amd64'")
    assert (
        debian.dependency("linux-image-cloud-amd64", r"linux-image-\d.*") == "linux-image-6.12.1-cloud-amd64"
    )


def test_a_package_is_unpacked_under_its_name(debian: Debian) -> None:
    directory = debian.unpack("busybox-static")
    assert directory == debian.cache / "busybox-static"
    assert (directory / "boot/kernel").read_text() == "archive\n"


def test_an_unpacked_package_is_not_downloaded_again(debian: Debian, calls: Calls) -> None:
    debian.unpack("busybox-static")
    before = calls()
    debian.unpack("busybox-static")
    assert calls() == before


def test_nothing_is_left_of_a_failed_download(debian: Debian, command: Command) -> None:
    command("apt-get", "echo 'W: slow' >&2; echo 'E: Unable to locate package busybox-static' >&2; exit 100")
    message = "apt-get download busybox-static: Unable to locate package busybox-static"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        debian.unpack("busybox-static")
    assert list(debian.cache.iterdir()) == []


def test_a_damaged_archive_is_named(debian: Debian, command: Command) -> None:
    command("dpkg-deb", "echo 'dpkg-deb: error: not a Debian format archive' >&2; exit 2")
    with pytest.raises(ConfigError, match="not a Debian format archive"):
        debian.unpack("busybox-static")
    assert list(debian.cache.iterdir()) == []


def test_a_host_without_apt_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apt-cache is not installed: .* \(KERNEL=…\)"):
        Debian(tmp_path).newest(PATTERN)

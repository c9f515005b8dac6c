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
DOWNLOAD = "for package; do :; done; [ $package = update ] || echo archive >${package}_1_amd64.deb"
UNPACK = "mkdir -p $3/boot && cp $2 $3/boot/kernel"


@pytest.fixture
def debian(tmp_path: Path, command: Command) -> Debian:
    command("apt-cache", LISTING)
    command("apt-get", DOWNLOAD)
    command("dpkg-deb", UNPACK)
    return Debian(tmp_path / "cache")


def test_the_highest_version_is_the_newest(debian: Debian) -> None:
    assert debian.obtain(PATTERN) == debian.cache / "linux-image-6.1.0-56-cloud-amd64"


def test_versions_are_compared_as_numbers() -> None:
    assert version_key("linux-image-6.1.0-9") < version_key("linux-image-6.1.0-56")


def test_the_first_pattern_that_matches_decides(debian: Debian) -> None:
    newer = "linux-image-6[.]1[.]0-60-cloud-amd64-dbg"
    assert debian.obtain("none", PATTERN, newer) == debian.cache / "linux-image-6.1.0-56-cloud-amd64"


def test_empty_lists_are_fetched_into_the_cache(debian: Debian, command: Command, calls: Calls) -> None:
    lists = debian.cache / "apt/lists"
    command("apt-cache", f"[ -e {lists}/new ] || exit 0\n{LISTING}")
    command("apt-get", f"[ -e {lists} ] && echo >{lists}/new; {DOWNLOAD}")
    assert debian.obtain(PATTERN)
    update = calls()[1]
    assert f"Dir::State::Lists={lists}" in update
    assert update.endswith("update")


def test_a_package_that_the_archive_dropped_is_looked_for_in_fresh_lists(
    debian: Debian, command: Command
) -> None:
    lists = debian.cache / "apt/lists"
    command(
        "apt-cache", f"echo linux-image-6.1.0-$([ -e {lists} ] && echo 57 || echo 50)-cloud-amd64 - Linux"
    )
    command("apt-get", f"case $* in *6.1.0-50*) echo 'E: 404  Not Found' >&2; exit 100; esac; {DOWNLOAD}")
    assert debian.obtain(PATTERN) == debian.cache / "linux-image-6.1.0-57-cloud-amd64"


def test_offline_the_first_failure_is_the_one_reported(debian: Debian, command: Command) -> None:
    command("apt-cache", f"[ -e {debian.cache}/apt ] && exit 0\n{LISTING}")
    command(
        "apt-get", "case $* in *download*) echo 'E: Could not resolve deb.debian.org' >&2; exit 100; esac"
    )
    with pytest.raises(ConfigError, match="cloud-amd64: Could not resolve deb"):
        debian.obtain(PATTERN)


def test_a_package_that_no_list_has_is_none(debian: Debian, command: Command) -> None:
    command("apt-cache", "")
    assert debian.obtain(PATTERN) is None


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
        Debian(tmp_path).obtain(PATTERN)

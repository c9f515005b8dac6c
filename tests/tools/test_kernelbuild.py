"""The kernel for the machine is compiled once, whole or not at all, and what a build lacks is named."""

import logging
from pathlib import Path

import pytest

from stratovirt.errors import ConfigError
from stratovirt.tools import kernelbuild
from stratovirt.tools.guest import main
from stratovirt.tools.kernelbuild import PROGRAMS, build_kernel
from tests.tools.samples import Calls, Command

# The source is one file; make writes what the real one would, and a line per file as Kbuild prints them.
UNPACK = "mkdir -p $3/usr/src && echo source >$3/usr/src/linux-source-6.1.tar.xz"
MAKE = """
[ $4 ] || exit 0
cd $2 && mkdir -p arch/x86/boot include/config
for number in $(seq 250); do echo "  CC      kernel/$number.o"; done
echo 6.1.0-test >include/config/kernel.release
cat .config >arch/x86/boot/bzImage
"""


@pytest.fixture
def cache(tmp_path: Path, command: Command) -> Path:
    """The cache directory of a host that has every tool."""
    for program in PROGRAMS:
        command(program, "")
    command("apt-cache", "echo 'linux-source-6.1 - Linux kernel source'")
    command("apt-get", "for package; do :; done; echo >$package.deb")
    command("dpkg-deb", UNPACK)
    command("make", MAKE)
    return tmp_path / "cache"


def test_it_is_compiled_with_our_configuration_and_nothing_else_is_left(cache: Path) -> None:
    image = build_kernel(cache)
    assert image.name == "vmlinuz-6.1.0-test"
    assert image.read_bytes() == Path(kernelbuild.__file__).with_name("microvm-6.1.config").read_bytes()
    assert sorted(path.name for path in cache.iterdir()) == [image.parents[1].name, "linux-source-6.1"]


def test_it_is_compiled_once(cache: Path, calls: Calls) -> None:
    image = build_kernel(cache)
    before = calls()
    assert build_kernel(cache) == image
    assert calls() == before


def test_so_many_files_at_once_as_asked(cache: Path, calls: Calls) -> None:
    assert main(["kernel", "--flavour", "microvm", "--jobs", "3", "--dir", str(cache)]) == 0
    assert [call for call in calls() if call.startswith("make ")][-1].endswith("-j3 bzImage")


def test_progress_is_shown(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        build_kernel(cache)
    assert [line for line in caplog.messages if "files, " in line] == [
        f"{count} of some {kernelbuild.FILES} files, kernel/{count}.o" for count in (100, 200)
    ]


def test_what_is_missing_is_named_by_its_package(cache: Path, tmp_path: Path, command: Command) -> None:
    for program in ("flex", "xz"):
        (tmp_path / f"commands/{program}").unlink()
    command("gcc", "exit 1")  # as it says for a header that is not there
    with pytest.raises(
        ConfigError, match=r"^building a kernel needs flex, xz-utils, libelf-dev: apt-get inst"
    ):
        build_kernel(cache)


def test_a_failed_build_says_the_first_error_and_goes_on_where_it_was(
    cache: Path, command: Command, calls: Calls
) -> None:
    command("make", "echo 'a.c:1:2: error: no semicolon' >&2; echo 'make: *** [a.o] Error 1' >&2; exit 2")
    with pytest.raises(ConfigError, match=r"^make: a.c:1:2: error: no semicolon \(see .*/build.log\)$"):
        build_kernel(cache)
    assert list(cache.glob("linux-microvm-*")) == []
    command("make", MAKE)
    assert build_kernel(cache).exists()
    assert len([call for call in calls() if call.startswith("tar ")]) == 1


def test_an_archive_without_the_source_says_so(cache: Path, command: Command) -> None:
    command("apt-cache", "")
    with pytest.raises(ConfigError, match=r"^apt has no linux-source-6.1$"):
        build_kernel(cache)


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_jobs_are_a_positive_number(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["kernel", f"--jobs={jobs}"])
    assert f"'{jobs}' is not a positive number" in capsys.readouterr().err

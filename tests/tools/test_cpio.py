"""An initramfs archive holds what was put in, in the format Linux unpacks, the same bytes every time."""

import shutil
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.tools.cpio import MAX_FILE_SIZE, Archive
from tests.tools.samples import read_cpio

CPIO = shutil.which("cpio")
names = st.text("abc-._", min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def sample() -> Archive:
    archive = Archive()
    archive.file("/init", b"#!/bin/sh\n", executable=True)
    archive.file("/etc/passwd", b"root")
    archive.symlink("/bin/sh", "busybox")
    archive.character_device("/dev/console", 5, 1)
    archive.directory("/proc")
    return archive


def test_every_kind_of_entry_reads_back() -> None:
    members = read_cpio(sample().to_bytes())
    assert members["init"].data == b"#!/bin/sh\n"
    assert members["init"].mode == stat.S_IFREG | 0o755
    assert members["etc/passwd"].mode == stat.S_IFREG | 0o644
    assert (members["bin/sh"].mode, members["bin/sh"].data) == (stat.S_IFLNK | 0o777, b"busybox")
    assert (members["dev/console"].mode, members["dev/console"].device) == (stat.S_IFCHR | 0o600, (5, 1))
    assert (members["proc"].mode, members["proc"].links) == (stat.S_IFDIR | 0o755, 2)


def test_parents_come_by_themselves_and_before_their_children() -> None:
    archive = Archive()
    archive.file("/a/b/c", b"")
    assert list(read_cpio(archive.to_bytes())) == ["a", "a/b", "a/b/c"]


def test_nothing_of_the_builder_shows() -> None:
    assert {(member.owner, member.mtime) for member in read_cpio(sample().to_bytes()).values()} == {(0, 0)}


def test_the_order_of_adding_does_not_matter() -> None:
    one, other = Archive(), Archive()
    one.file("/a", b"1")
    one.file("/b", b"2")
    other.file("/b", b"2")
    other.file("/a", b"1")
    assert one.to_bytes() == other.to_bytes()


@given(files=st.dictionaries(names.map(lambda name: "/" + name), st.binary(max_size=20)))
def test_whatever_the_lengths_of_names_and_data_all_files_read_back(files: dict[str, bytes]) -> None:
    archive = Archive()
    for path, data in files.items():
        archive.file(path, data)
    members = read_cpio(archive.to_bytes())
    assert {f"/{path}": member.data for path, member in members.items()} == files


@given(path=paths)
def test_no_member_has_an_absolute_name(path: str) -> None:
    archive = Archive()
    archive.file(path, b"")
    assert not any(name.startswith("/") for name in read_cpio(archive.to_bytes()))


def test_a_relative_path_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="relative"):
        Archive().file("relative", b"")


def test_a_file_larger_than_the_format_can_say_is_refused() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_FILE_SIZE + 1

    with pytest.raises(ValueError, match="/disk: larger than 4 GiB"):
        Archive().file("/disk", Huge())


@pytest.mark.skipif(CPIO is None, reason="cpio is not installed")
def test_gnu_cpio_lists_the_same_names() -> None:
    listing = subprocess.run(
        [str(CPIO), "-it", "--quiet"], input=sample().to_bytes(), capture_output=True, check=True
    )
    names = ["bin", "bin/sh", "dev", "dev/console", "etc", "etc/passwd", "init", "proc"]
    assert listing.stdout.decode().split() == names

"""Guest memory is made as -m, -mem-path, -mem-prealloc and -machine say, or refused by the option's name."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stratovirt.cli import Config
from stratovirt.cli.config import Machine, Object, Property
from stratovirt.errors import OptionError
from stratovirt.memory import GuestMemory
from stratovirt.memory.files import SharedRegion
from stratovirt.nursery.ram import claim_ram

MIB = 1 << 20
SIZE = 4 * MIB


def options(*, path: Path | None = None, share: bool = False, prealloc: bool = False) -> Config:
    machine = Machine("microvm", mem_share=share)
    return Config(machine=machine, memory=SIZE, mem_path=str(path) if path else None, mem_prealloc=prealloc)


def backend(type: str, *properties: Property) -> Config:
    thing = Object(type, "ram0", (("size", SIZE), *properties))
    return Config(machine=Machine("microvm", memory_backend="ram0"), memory=SIZE, objects=(thing,))


@contextmanager
def ram(chosen: Config) -> Iterator[GuestMemory]:
    with ExitStack() as claimed:
        memory = claim_ram(chosen, claimed)(chosen.memory)
        try:
            yield memory
        finally:
            memory.close()


def resident(memory: GuestMemory) -> int:
    """Bytes of RAM that the host has given (proc(5), smaps)."""
    wanted, total, inside = memory.regions[0].host_address, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name and not name.endswith(":"):
            inside = int(name.split("-")[0], 16) == wanted
        elif inside and name == "Rss:":
            total += int(rest[0]) * 1024
    return total


@pytest.fixture(params=["private", "shared", "file", "shared file", "directory", "shared directory"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    words = request.param.split()
    path = {"file": tmp_path / "ram", "directory": tmp_path}.get(words[-1])
    return options(path=path, share="shared" in words)


@pytest.mark.parametrize(
    ("kind", "properties", "shared"),
    [
        ("ram", {}, False),
        ("ram", {"share": True}, True),
        ("file", {}, False),
        ("file", {"share": True}, True),
        ("memfd", {}, True),
        ("memfd", {"share": False}, False),
    ],
)
def test_a_memory_backend_is_what_the_options_make_and_qemus_default(
    tmp_path: Path, kind: str, properties: dict[str, bool], shared: bool
) -> None:
    given: dict[str, str | bool] = {**properties, "prealloc": True}
    if kind == "file":
        given["mem-path"] = str(tmp_path / "ram")
    with ram(backend(f"memory-backend-{kind}", *given.items())) as memory:
        assert isinstance(memory.regions[0], SharedRegion) == shared
        assert resident(memory) == SIZE
        memory.write(0, b"guest")
    assert kind != "file" or (tmp_path / "ram").read_bytes()[:5] == (b"guest" if shared else bytes(5))


def test_a_memory_backend_that_the_host_cannot_give_is_refused_by_its_id(tmp_path: Path) -> None:
    nowhere = tmp_path / "none" / "ram"
    for asked, why in (
        (backend("memory-backend-file", ("mem-path", str(nowhere))), "No such file or directory"),
        (backend("memory-backend-ram", ("policy", "bind"), ("host-nodes", "0")), "memory is not bound"),
    ):
        with ExitStack() as claimed, pytest.raises(OptionError) as refused:
            claim_ram(asked, claimed)
        assert str(refused.value).startswith(f"-object {asked.objects[0].type},id=ram0: {why}")


def test_ram_is_zero_holds_what_is_written_and_reads_zero_once_discarded(made: Config) -> None:
    with ram(made) as memory:
        assert memory.read(0, SIZE) == bytes(SIZE)
        memory.write(5 * mmap.PAGESIZE, b"kept")
        memory.write(9 * mmap.PAGESIZE, b"gone")
        memory.discard(9 * mmap.PAGESIZE, mmap.PAGESIZE)
        assert memory.read(5 * mmap.PAGESIZE, 4) == b"kept"
        assert memory.read(9 * mmap.PAGESIZE, 4) == bytes(4)
        memory.clear()
        assert memory.read(0, SIZE) == bytes(SIZE)


def test_ram_that_is_discarded_goes_back_to_the_host(made: Config) -> None:
    with ram(made) as memory:
        memory.write(0, b"\xa5" * SIZE)
        assert resident(memory) == SIZE
        memory.discard(0, SIZE)
        assert resident(memory) == 0


def test_a_shared_file_is_what_the_guest_wrote_and_a_private_one_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    for share, expected in ((False, b"before"), (True, b"writes")):
        path.write_bytes(b"before".ljust(SIZE, b"\0"))
        with ram(options(path=path, share=share)) as memory:
            assert memory.read(0, 6) == b"before"
            memory.write(0, b"writes")
        assert path.read_bytes()[:6] == expected


def test_preallocated_ram_is_there_at_once_and_again_after_a_reset(tmp_path: Path) -> None:
    for path in (None, tmp_path / "ram"):
        with ram(options(path=path, prealloc=True)) as memory:
            assert resident(memory) == SIZE
            memory.clear()
            assert resident(memory) == SIZE


def test_a_directory_is_left_empty(tmp_path: Path) -> None:
    with ram(options(path=tmp_path)):
        assert list(tmp_path.iterdir()) == []


def test_what_cannot_back_ram_is_refused_by_name(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"x" * 100)
    for path, why in (
        (short, "it has 100 bytes, RAM has 4194304"),
        (Path("/dev/null"), "neither a regular file nor a directory"),
        (tmp_path / "none" / "ram", "No such file or directory"),
        (Path("/proc"), "Operation not supported"),
    ):
        with ExitStack() as claimed, pytest.raises(OptionError) as refused:
            claim_ram(options(path=path), claimed)
        assert str(refused.value) == f"-mem-path {path}: {why}"
    assert short.read_bytes() == b"x" * 100


def _hugetlbfs() -> Path | None:
    """Where huge pages of 2 MiB can be had, if the host has set some aside."""
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(fields[1]) for fields in mounts if fields[2] == "hugetlbfs"]
    return places[0] if places and free.exists() and int(free.read_text()) * 2 * MIB >= 2 * SIZE else None


@pytest.mark.skipif(_hugetlbfs() is None, reason="this host has set no huge pages aside")
@pytest.mark.parametrize("share", [False, True])
def test_ram_in_huge_pages_is_given_back_in_whole_ones(share: bool) -> None:
    with ram(options(path=_hugetlbfs(), share=share, prealloc=True)) as memory:
        memory.write(0, b"\xa5" * SIZE)
        memory.discard(mmap.PAGESIZE, mmap.PAGESIZE)
        memory.discard(2 * MIB, 2 * MIB)
        assert memory.read(mmap.PAGESIZE, 1) == b"\xa5"
        assert memory.read(2 * MIB, 2 * MIB) == bytes(2 * MIB)
        with ExitStack() as claimed, pytest.raises(OptionError, match="no multiple of its 2048 KiB pages"):
            odd = options(path=_hugetlbfs())
            claim_ram(Config(machine=odd.machine, memory=5 * MIB, mem_path=odd.mem_path), claimed)

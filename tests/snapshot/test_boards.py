"""A board's state goes into a fresh board like it, and into no other; what differs is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stratovirt.accel.choose import Name
from stratovirt.accel.features import Features
from stratovirt.accel.topology import Topology
from stratovirt.devices.virtio.balloon import VirtioBalloon
from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.errors import AcceleratorUnavailable, SnapshotError
from stratovirt.machine.microvm import Microvm
from stratovirt.machine.sections import load_board, save_board
from stratovirt.vmstate import Section, decode, encode
from tests.snapshot.boards import RAM, board, counter, disk, every_device, running

DEADLINE = 20.0


@pytest.fixture
def claimed() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def saved(board: Microvm) -> list[Section]:
    """As it comes back from a file."""
    board.accelerator.freeze()
    try:
        return decode(encode(save_board(board)))
    finally:
        board.accelerator.thaw()


def until_counted(board: Microvm, value: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while counter(board) < value:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_a_guest_goes_on_in_another_board_where_it_was(
    accelerator: Name, tmp_path: Path, claimed: ExitStack
) -> None:
    try:
        old = claimed.enter_context(board(tmp_path, accelerator, every_device(claimed)))
    except AcceleratorUnavailable as reason:
        pytest.skip(str(reason))
    old.boot()
    with running(old):
        until_counted(old, 100)
    reached = counter(old)
    with board(tmp_path, accelerator, every_device(claimed)) as new:
        for ours, theirs in zip(new.memory.regions, old.memory.regions, strict=True):
            ours.bytes[:] = theirs.bytes
        load_board(new, saved(old))
        assert counter(new) == reached
        with running(new):
            until_counted(new, reached + 100)
        new.reset()
        assert counter(new) == 0
        with running(new):
            until_counted(new, 1)


def test_what_is_saved_again_is_the_same(tmp_path: Path, claimed: ExitStack) -> None:
    with board(tmp_path, "tcg", every_device(claimed)) as old:
        old.boot()
        sections = saved(old)
    with board(tmp_path, "tcg", every_device(claimed)) as new:
        load_board(new, sections)
        again = {section.name: section for section in saved(new)}
    for section in sections:
        if section.name not in ("machine", "accelerator"):  # which tell the time
            assert again[section.name] == section


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "RAM": ({"memory_size": 2 * RAM}, "saved with 128 MiB of RAM; this machine has 256"),
    "vCPUs": ({"cpus": 2, "topology": Topology(cores=2)}, "saved with 1 vCPUs; this machine has 2"),
}


@pytest.mark.parametrize("other", ["RAM", "vCPUs"])
def test_another_machine_is_refused_with_what_differs(other: str, tmp_path: Path, claimed: ExitStack) -> None:
    request, difference = OTHERS[other]
    with board(tmp_path, "tcg", []) as old:
        old.boot()
        sections = saved(old)
    with board(tmp_path, "tcg", [], **request) as new, pytest.raises(SnapshotError) as refused:
        load_board(new, sections)
    assert str(refused.value) == difference


@pytest.mark.parametrize(
    ("was", "now", "difference"),
    [
        ((), ("pni",), "the CPU lacks pni"),
        (("pni",), (), "the CPU has pni, which the saved one had not; see -cpu host,-NAME"),
    ],
)
def test_another_cpu_is_refused_by_its_features(
    was: tuple[str, ...], now: tuple[str, ...], difference: str, tmp_path: Path
) -> None:
    with board(tmp_path, "tcg", [], features=Features(removed=was)) as old:
        old.boot()
        sections = saved(old)
    with (
        board(tmp_path, "tcg", [], features=Features(removed=now)) as new,
        pytest.raises(SnapshotError) as refused,
    ):
        load_board(new, sections)
    assert str(refused.value) == difference


DEVICES: dict[str, tuple[Callable[[ExitStack], dict[str, Any]], str]] = {
    "missing": (lambda _: {"rng": None}, "saved with 7 devices (disk, disk, network card, entropy source, "),
    "other kind": (
        lambda _: {"rng": lambda: VirtioBalloon(RAM)},
        "device slot 3: saved as: entropy source; this one: balloon",
    ),
    "size": (
        lambda claimed: {"disk": lambda: disk(claimed, 2 << 20)},
        "device slot 0: saved with image 1048576 bytes; this disk has 2097152 bytes",
    ),
    "empty": (
        lambda _: {"disk": lambda: VirtioBlock("empty")},
        "device slot 0: saved with image 1048576 bytes; this disk has none",
    ),
    "filled": (
        lambda claimed: {"empty": lambda: disk(claimed)},
        "device slot 1: saved with image none; this disk has 1048576 bytes",
    ),
    "queues": (
        lambda _: {"console": lambda: VirtioConsole(2)},
        "device slot 5: saved with queues of [64, 64, 64, 64] entries; this console has [64, 64, ",
    ),
}


@pytest.mark.parametrize("other", DEVICES)
def test_other_devices_are_refused_by_slot(other: str, tmp_path: Path, claimed: ExitStack) -> None:
    replaced, difference = DEVICES[other]
    with board(tmp_path, "tcg", every_device(claimed)) as old:
        old.boot()
        sections = saved(old)
    devices = every_device(claimed, **replaced(claimed))
    with board(tmp_path, "tcg", devices) as new, pytest.raises(SnapshotError) as refused:
        load_board(new, sections)
    assert str(refused.value).startswith(difference)


def changed(sections: list[Section], name: str, **state: object) -> list[Section]:
    """As ``sections``, where the state ``name`` says something else; None: says nothing of it."""
    return [
        section._replace(state={key: value for key, value in (section.state | state).items() if value != ...})
        if section.name == name
        else section
        for section in sections
    ]


@pytest.mark.parametrize(
    ("name", "state", "difference"),
    [
        ("machine", {"accelerator": "kvm"}, "saved under kvm; this machine runs under tcg"),
        ("machine", {"cpu": {"vendor": "VIA VIA VIA "}}, "saved on a CPU of VIA VIA VIA ; "),
        (
            "machine",
            {"topology": [2, 1, 1, 1, 1]},
            "saved with topology 2x1x1x1x1; this machine has 1x1x1x1x1",
        ),
        ("machine", {"devices": ...}, "section machine lacks 'devices'"),
        ("machine", {"devices": [{}]}, "section machine holds what cannot be"),
        ("machine", {"cpu": 7}, "section machine holds what cannot be"),
        ("accelerator", {"library": "0000"}, "section accelerator: saved with another build of libunicorn"),
        ("accelerator", {"vcpus": []}, "section accelerator: saved with 0 vCPUs, not 1"),
        ("rtc", {"cmos": b"short"}, "section rtc holds what cannot be: 5 bytes of CMOS"),
        ("serial", {"ier": ...}, "section serial lacks 'ier'"),
    ],
)
def test_sections_that_do_not_fit_are_refused_by_name(
    name: str, state: dict[str, object], difference: str, tmp_path: Path
) -> None:
    with board(tmp_path, "tcg", [VirtioBlock("empty")]) as old:
        old.boot()
        sections = saved(old)
    with board(tmp_path, "tcg", [VirtioBlock("empty")]) as new, pytest.raises(SnapshotError) as refused:
        load_board(new, changed(sections, name, **state))
    assert str(refused.value).startswith(difference)


@pytest.mark.parametrize(
    "name", ["machine", "accelerator", "rtc", "i8042", "events", "serial", "virtio0", "virtio0.device"]
)
def test_a_section_that_is_not_there_or_of_a_later_version_is_named(name: str, tmp_path: Path) -> None:
    with board(tmp_path, "tcg", [VirtioBlock("empty")]) as old:
        old.boot()
        sections = saved(old)
    without = [section for section in sections if section.name != name]
    later = [section._replace(version=99) if section.name == name else section for section in sections]
    for wrong, difference in ((without, f"there is no section {name}"), (later, "has version 99; known is")):
        with board(tmp_path, "tcg", [VirtioBlock("empty")]) as new, pytest.raises(SnapshotError) as refused:
            load_board(new, wrong)
        assert difference in str(refused.value)
        assert name in str(refused.value)

"""A board's state as the sections of a snapshot, and back.

The law: nothing runs and nobody serves a device while its state is read or put in; the accelerator's comes
first, since what the devices put in drives its interrupt lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stratovirt.errors import SnapshotError
from stratovirt.machine import facts
from stratovirt.machine.microvm import Microvm
from stratovirt.vmstate import Saved, Section, load_section, save_section


def save_board(board: Microvm) -> list[Section]:
    """All state but RAM. While guest time is frozen."""
    return [facts.describe(board), *(save_section(name, part) for name, part in _parts(board))]


def load_board(board: Microvm, sections: Sequence[Section]) -> None:
    """Put in what :func:`save_board` gave; RAM is there already, and nothing has run.

    :raises SnapshotError: it is of another machine, or not all there; the board cannot be used then.
    """
    facts.compare(facts.read(sections), board)
    given = {section.name: section for section in sections}
    board.accelerator.freeze()
    for name, part in _parts(board):
        if name not in given:
            raise SnapshotError(f"there is no section {name}")
        load_section(given[name], part)
    board.accelerator.thaw()


def _parts(board: Microvm) -> Iterator[tuple[str, Saved]]:
    yield "accelerator", board.accelerator
    yield from board.devices.items()
    for transport in board.transports:
        yield transport.name, transport
        yield f"{transport.name}.device", transport.device

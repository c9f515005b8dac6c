"""Who can be saved, and how a section is put into it.

The law: what a section holds is known only to who saved it; here is only said, in one sentence, which one
does not fit and why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from stratovirt.errors import SnapshotError, StratovirtError
from stratovirt.vmstate.codec import Section


class Saved(Protocol):
    """A part of a machine that saves itself.

    :cvar state_version: of what :meth:`save` gives; raised whenever its meaning changes.
    """

    @property
    def state_version(self) -> int: ...

    def save(self) -> dict[str, Any]:
        """All state as plain values; only while nothing runs."""

    def load(self, version: int, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave in ``version``, 1 to :attr:`state_version`."""


def save_section(name: str, part: Saved) -> Section:
    """The section ``name``, with ``part`` as it is now."""
    return Section(name, part.state_version, part.save())


def load_section(section: Section, part: Saved) -> None:
    """Put ``section`` into ``part``.

    :raises SnapshotError: its version is unknown, or its contents are not what ``part`` saves.
    """
    if not 1 <= section.version <= part.state_version:
        raise SnapshotError(
            f"section {section.name} has version {section.version}; known is up to {part.state_version}"
        )
    try:
        part.load(section.version, section.state)
    except KeyError as error:
        raise SnapshotError(f"section {section.name} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise SnapshotError(f"section {section.name} holds what cannot be: {error}") from error
    except StratovirtError as error:
        raise SnapshotError(f"section {section.name}: {error}") from error


def save_fields(part: object, names: Iterable[str]) -> dict[str, Any]:
    """The attributes ``names`` of ``part``, each under its name without leading underscores."""
    return {name.lstrip("_"): getattr(part, name) for name in names}


def load_fields(part: object, names: Iterable[str], state: dict[str, Any]) -> None:
    """Set the attributes that :func:`save_fields` gave.

    :raises KeyError: one is missing.
    """
    for name in names:
        setattr(part, name, state[name.lstrip("_")])

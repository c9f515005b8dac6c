"""Typed arguments of every command. Generated: python -m stratovirt.qmp.generate"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self


class Arguments(Protocol):
    """What the types below have in common."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""


@dataclass(frozen=True, slots=True)
class NoArguments:
    """For commands that take none."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """The same for every such command."""
        return cls()


@dataclass(frozen=True, slots=True)
class QmpCapabilities:
    """Arguments of qmp_capabilities."""

    enable: list[str] | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(enable=given.get("enable"))


BY_COMMAND: Mapping[str, type[Arguments]] = {
    "cont": NoArguments,
    "qmp_capabilities": QmpCapabilities,
    "query-commands": NoArguments,
    "query-events": NoArguments,
    "query-status": NoArguments,
    "query-version": NoArguments,
    "quit": NoArguments,
    "stop": NoArguments,
    "system_powerdown": NoArguments,
    "system_reset": NoArguments,
}

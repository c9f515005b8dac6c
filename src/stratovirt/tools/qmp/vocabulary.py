"""What a server understands, from its query-qmp-schema (QEMU's SchemaInfo form).

The law: nothing here is needed to execute a command. A server that does not tell has names of commands
at most, and completion and help have as much less to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stratovirt.client.blocking import QmpClient
from stratovirt.errors import QmpCommandError

Info = Mapping[str, Any]
"""One SchemaInfo: QEMU's qapi/introspect.json."""


@dataclass(frozen=True, slots=True)
class Member:
    """An argument, or a member of one.

    :ivar type: name of its SchemaInfo.
    """

    name: str
    type: str
    optional: bool


class Vocabulary:
    """Commands, and the types of their arguments."""

    def __init__(self, infos: Iterable[Info], names: Iterable[str] = ()) -> None:
        """From SchemaInfos, or from names of commands alone."""
        self._types = {info["name"]: info for info in infos}
        told = (name for name, info in self._types.items() if info["meta-type"] == "command")
        self.commands = sorted({*told, *names})

    @classmethod
    def of(cls, client: QmpClient) -> Vocabulary:
        """What the server says."""
        try:
            return cls(client.execute("query-qmp-schema"))
        except QmpCommandError:
            return cls((), _command_names(client))

    def arguments(self, command: str) -> list[Member]:
        """Arguments of a command; none if it, or they, are not known."""
        info = self._types.get(command, {})
        return self.members(info["arg-type"]) if info.get("meta-type") == "command" else []

    def members(self, type: str) -> list[Member]:
        """Members of an object or of an alternate that may be one, those of all variants among them."""
        info = self._types.get(type, {})
        if info.get("meta-type") == "alternate":
            return [member for choice in info["members"] for member in self.members(choice["type"])]
        if info.get("meta-type") != "object":
            return []
        own = [Member(m["name"], m["type"], "default" in m) for m in info["members"]]
        names = {member.name for member in own}
        for variant in info.get("variants", ()):
            new = [member for member in self.members(variant["type"]) if member.name not in names]
            own += [Member(member.name, member.type, True) for member in new]
            names |= {member.name for member in new}
        return own

    def usage(self, command: str) -> list[str]:
        """Each argument as it is typed, with its type; those that may be left out in brackets."""
        return list(self._usage(self.arguments(command), "", False, frozenset()))

    def is_object(self, type: str) -> bool:
        """Is a value of this type always an object?"""
        return self._types.get(type, {}).get("meta-type") == "object"

    def member(self, command: str, path: str) -> Member | None:
        """The argument, or the member of one, at a dotted path."""
        members = self.arguments(command)
        whole = {member.name: member for member in members}
        if path in whole:
            return whole[path]
        found = None
        for name in path.split("."):
            found = next((member for member in members if member.name == name), None)
            members = self.members(found.type) if found else []
        return found

    def values(self, type: str) -> list[str]:
        """What a value of this type can be, where the choice is small."""
        info = self._types.get(type, {})
        if info.get("json-type") == "boolean":
            return ["true", "false"]
        return list(info.get("values", ())) if info.get("meta-type") == "enum" else []

    def describe(self, type: str) -> str:
        """A type, for people."""
        info = self._types.get(type, {})
        match info.get("meta-type"):
            case "builtin":
                return str(info["json-type"])
            case "enum":
                return "|".join(info["values"])
            case "array":
                return f"[{self.describe(info['element-type'])}, …]"
            case "alternate":
                return " or ".join(self.describe(member["type"]) for member in info["members"])
        return "object"

    def _usage(
        self, members: Iterable[Member], prefix: str, optional: bool, above: frozenset[str]
    ) -> Iterator[str]:
        for member in members:
            name, can_miss = prefix + member.name, optional or member.optional
            if self.is_object(member.type) and member.type not in above:
                inner = self.members(member.type)
                yield from self._usage(inner, f"{name}.", can_miss, above | {member.type})
            else:
                text = f"{name}={self.describe(member.type)}"
                yield f"[{text}]" if can_miss else text


def _command_names(client: QmpClient) -> list[str]:
    try:
        return [command["name"] for command in client.execute("query-commands")]
    except QmpCommandError:
        return []

"""Write ``arguments.py`` from ``schemas/``: ``python -m stratovirt.qmp.generate``.

The law: the output depends on the schemas alone, so that a test can tell if it is fresh.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from pathlib import Path

from stratovirt.qmp import schemas
from stratovirt.qmp.schemas import Schema, type_names

OUTPUT = Path(__file__).with_name("arguments.py")

_HEAD = '''\
"""Typed arguments of every command. Generated: python -m stratovirt.qmp.generate

NamedTuples, and annotations that are evaluated: defining one takes 0.1 ms, a dataclass with slots 0.8 ms,
and every start of a VM pays for all of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self


class Arguments(Protocol):
    """What the types below have in common."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""


class NoArguments(NamedTuple):
    """For commands that take none."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """The same for every such command."""
        return cls()
'''
_CLASS = '''

class {name}(NamedTuple):
    """{title}"""

{fields}
    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
{values}        )
'''
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def source() -> str:
    """The text of ``arguments.py``."""
    arguments = {command: schema["arguments"] for command, schema in schemas.load().commands.items()}
    classes = [
        text
        for command, schema in arguments.items()
        if schema["properties"]
        for text in _classes(class_name(command, schema), f"Arguments of {command}.", schema)
    ]
    index = "".join(
        f'    "{command}": {class_name(command, schema)},\n' for command, schema in arguments.items()
    )
    table = f"\n\nBY_COMMAND: Mapping[str, type[Arguments]] = {{\n{index}}}\n"
    return _HEAD + "".join(classes) + table


def class_name(command: str, arguments: Schema) -> str:
    """``device_add`` -> ``DeviceAdd``; one name for all that take no arguments."""
    return _camel(command) if arguments["properties"] else "NoArguments"


def field_name(argument: str) -> str:
    """``read-only`` -> ``read_only``."""
    name = argument.replace("-", "_").replace(".", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.replace("-", "_").split("_"))


def _classes(name: str, title: str, schema: Schema) -> Iterator[str]:
    """The class of an object, behind those of the objects within it."""
    members = _members(schema)
    for member, inner in members.items():
        if inner["type"] == "object":
            yield from _classes(name + _camel(member), f"``{member}`` of :class:`{name}`.", inner)
    required = schema.get("required", [])
    # Required ones first: fields without default stand before those with one.
    names = sorted(members, key=lambda member: member not in required)
    yield _CLASS.format(
        name=name,
        title=title,
        fields="".join(_field(name, one, members[one], one in required) for one in names),
        values="".join(_value(name, one, members[one], one in required) for one in names),
    )


def _members(schema: Schema) -> dict[str, Schema]:
    resolve = schemas.load().resolve
    return {name: resolve(member) for name, member in schema["properties"].items()}


def _field(owner: str, name: str, schema: Schema, required: bool) -> str:
    kind = _python_type(owner, name, schema)
    return f"    {field_name(name)}: {kind}{'' if required else ' | None = None'}\n"


def _value(owner: str, name: str, schema: Schema, required: bool) -> str:
    value = f'given["{name}"]' if required else f'given.get("{name}")'
    if schema["type"] == "object":
        value = f'{owner}{_camel(name)}.from_wire(given["{name}"])'
        value += "" if required else f' if "{name}" in given else None'
    return f"            {field_name(name)}={value},\n"


def _python_type(owner: str, name: str, schema: Schema) -> str:
    if schema["type"] == "object":
        return owner + _camel(name)
    if schema["type"] == "array":
        return f"list[{_python_type(owner, name, schema['items'])}]"
    return " | ".join(_SCALARS[kind] for kind in type_names(schema))


if __name__ == "__main__":
    OUTPUT.write_text(source(), "utf-8")

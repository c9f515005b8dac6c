"""Write ``arguments.py`` from ``schemas/``: ``python -m stratovirt.qmp.generate``.

The law: the output depends on the schemas alone, so that a test can tell if it is fresh.
"""

from __future__ import annotations

import keyword
from pathlib import Path

from stratovirt.qmp import schemas
from stratovirt.qmp.schemas import Schema

OUTPUT = Path(__file__).with_name("arguments.py")

_HEAD = '''\
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
'''
_CLASS = '''

@dataclass(frozen=True, slots=True)
class {name}:
    """Arguments of {command}."""

{fields}
    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls({values})
'''
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def source() -> str:
    """The text of ``arguments.py``."""
    commands = schemas.load().commands
    arguments = {command: schema["arguments"] for command, schema in commands.items()}
    classes = [_class(command, schema) for command, schema in arguments.items() if schema["properties"]]
    index = "".join(
        f'    "{command}": {class_name(command, schema)},\n' for command, schema in arguments.items()
    )
    table = f"\n\nBY_COMMAND: Mapping[str, type[Arguments]] = {{\n{index}}}\n"
    return _HEAD + "".join(classes) + table


def class_name(command: str, arguments: Schema) -> str:
    """``device_add`` -> ``DeviceAdd``; one name for all that take no arguments."""
    if not arguments["properties"]:
        return "NoArguments"
    return "".join(word.capitalize() for word in command.replace("-", "_").split("_"))


def field_name(argument: str) -> str:
    """``read-only`` -> ``read_only``."""
    name = argument.replace("-", "_").replace(".", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _class(command: str, arguments: Schema) -> str:
    required = arguments.get("required", [])
    # Required ones first: a dataclass has fields without default before those with one.
    names = sorted(arguments["properties"], key=lambda name: name not in required)
    fields = [_field(name, arguments["properties"][name], name in required) for name in names]
    values = [f"{field_name(name)}={_value(name, name in required)}" for name in names]
    return _CLASS.format(
        name=class_name(command, arguments),
        command=command,
        fields="".join(f"    {field}\n" for field in fields),
        values=", ".join(values),
    )


def _field(name: str, schema: Schema, required: bool) -> str:
    kind = _python_type(schema)
    return f"{field_name(name)}: {kind}" if required else f"{field_name(name)}: {kind} | None = None"


def _value(name: str, required: bool) -> str:
    return f'given["{name}"]' if required else f'given.get("{name}")'


def _python_type(schema: Schema) -> str:
    if schema["type"] == "array":
        return f"list[{_python_type(schema['items'])}]"
    return _SCALARS[schema["type"]]


if __name__ == "__main__":
    OUTPUT.write_text(source(), "utf-8")

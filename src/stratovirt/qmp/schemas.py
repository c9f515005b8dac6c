"""The contract as it lies in ``schemas/``: loaded, not interpreted.

One file per command and event, one each for greeting, reply and error, and ``types.json`` for what they
share. ``meta.json`` is the dialect they are written in.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

BASE = "https://stratovirt.example/schemas/"
"""What every ``$id`` starts with; nothing is ever fetched from there."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class Schemas:
    """Every schema file, parsed.

    :ivar commands: command name to file.
    :ivar events: event name to file.
    :ivar others: file name without suffix to file: greeting, reply, error, types, meta.
    """

    commands: dict[str, Schema]
    events: dict[str, Schema]
    others: dict[str, Schema]

    def all(self) -> list[Schema]:
        """Every file."""
        return [*self.others.values(), *self.commands.values(), *self.events.values()]

    def resolve(self, schema: Schema) -> Schema:
        """``schema``, or the shared type that it refers to; the description at the reference wins."""
        if "$ref" not in schema:
            return schema
        shared: Schema = self.others["types"]["$defs"][schema["$ref"].rpartition("/")[2]]
        return {**shared, **{key: value for key, value in schema.items() if key != "$ref"}}


def type_names(schema: Schema) -> list[str]:
    """The type, or the types, that a value may have."""
    kinds = schema["type"]
    return kinds if isinstance(kinds, list) else [kinds]


@functools.cache
def load() -> Schemas:
    """The schemas that are installed with this package."""
    return Schemas(_directory("commands"), _directory("events"), _directory("."))


def _directory(name: str) -> dict[str, Schema]:
    directory = resources.files("stratovirt").joinpath("schemas", name)
    files = sorted((file for file in directory.iterdir() if file.is_file()), key=lambda file: file.name)
    return {file.name.removesuffix(".json"): json.loads(file.read_text("utf-8")) for file in files}

"""The contract as it lies in ``schemas/``: loaded, not interpreted.

One file per command and event, one each for greeting, reply and error, and ``types.json`` for what they
share. ``meta.json`` is the dialect they are written in. A file is read when somebody looks into it: all of
them take 8 ms, and a session that asks for the status needs one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

BASE = "https://stratovirt.example/schemas/"
"""What every ``$id`` starts with; nothing is ever fetched from there."""

_SUFFIX = ".json"

Schema = dict[str, Any]


@dataclass(frozen=True)
class Schemas:
    """Every schema file.

    :ivar commands: command name to file.
    :ivar events: event name to file.
    :ivar others: file name without suffix to file: greeting, reply, error, types, meta.
    """

    commands: Mapping[str, Schema]
    events: Mapping[str, Schema]
    others: Mapping[str, Schema]

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
    return Schemas(_Directory("commands"), _Directory("events"), _Directory("."))


class _Directory(Mapping[str, Schema]):
    """The files of a directory, by name without suffix, in alphabetical order."""

    def __init__(self, name: str) -> None:
        directory = resources.files("stratovirt").joinpath("schemas", name)
        files = {file.name: file for file in directory.iterdir() if file.name.endswith(_SUFFIX)}
        self._files: dict[str, Traversable] = {
            name.removesuffix(_SUFFIX): files[name] for name in sorted(files)
        }
        self._read: dict[str, Schema] = {}

    def __getitem__(self, name: str) -> Schema:
        if name not in self._read:
            self._read[name] = json.loads(self._files[name].read_text("utf-8"))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

"""The schemas in QEMU's SchemaInfo form (qapi/introspect.json), for query-qmp-schema.

The law: types have no names of their own on the wire. They get numbers, as QEMU masks its own, and equal
types the same number; only builtins, commands and events are called by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from stratovirt.qmp.schemas import Schema, Schemas, type_names

BUILTINS = {
    "string": ("str", "string"),
    "integer": ("int", "int"),
    "number": ("number", "number"),
    "boolean": ("bool", "boolean"),
    "null": ("null", "null"),
}
"""JSON Schema's name of a type to QEMU's, and to QEMU's word for its JSON type."""

ANY = {"name": "any", "meta-type": "builtin", "json-type": "value"}

Info = dict[str, Any]


def schema_info(schemas: Schemas) -> list[Info]:
    """Every command and event, then the types that they use."""
    types = _Types(schemas)
    entities = [
        {
            "name": name,
            "meta-type": "command",
            "arg-type": types.name(schema["arguments"]),
            "ret-type": types.name(schema["returns"]),
            "allow-oob": False,
        }
        for name, schema in schemas.commands.items()
    ]
    entities += [
        {"name": name, "meta-type": "event", "arg-type": types.name(schema["data"])}
        for name, schema in schemas.events.items()
    ]
    return [*entities, *types.infos()]


class _Types:
    """Types by what they are made of, in the order of their first use."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._builtins: dict[str, Info] = {}
        self._made: dict[str, Info] = {}

    def infos(self) -> list[Info]:
        return [*self._builtins.values(), *self._made.values()]

    def name(self, schema: Schema) -> str:
        """The name of the type of ``schema``, which is made if it is new."""
        schema = self._schemas.resolve(schema)
        if "type" not in schema:
            return self._builtin(ANY)
        kinds = type_names(schema)
        if len(kinds) > 1:
            return self._numbered("alternate", members=self._alternatives(schema, kinds))
        return self._simple(schema, kinds[0])

    def _simple(self, schema: Schema, kind: str) -> str:
        words = [word for word in schema.get("enum", ()) if isinstance(word, str)]
        if kind == "string" and words:
            return self._numbered("enum", members=[{"name": word} for word in words], values=words)
        if kind == "array":
            element = self.name(schema["items"])
            return self._add(f"[{element}]", {"meta-type": "array", "element-type": element})
        if kind == "object":
            return self._numbered("object", members=self._members(schema))
        name, json_type = BUILTINS[kind]
        return self._builtin({"name": name, "meta-type": "builtin", "json-type": json_type})

    def _alternatives(self, schema: Schema, kinds: Iterable[str]) -> list[Info]:
        return [{"type": self._simple(schema, kind)} for kind in kinds]

    def _members(self, schema: Schema) -> list[Info]:
        required = schema.get("required", ())
        # A default of null means optional, without saying what the default is.
        return [
            {"name": name, "type": self.name(member), **({} if name in required else {"default": None})}
            for name, member in schema.get("properties", {}).items()
        ]

    def _builtin(self, info: Info) -> str:
        name: str = info["name"]
        self._builtins.setdefault(name, info)
        return name

    def _numbered(self, meta_type: str, **content: Any) -> str:
        return self._add(None, {"meta-type": meta_type, **content})

    def _add(self, name: str | None, content: Info) -> str:
        """The name of the type made of ``content``; the next number unless ``name`` is given."""
        info = self._made.setdefault(json.dumps(content), {"name": name or str(len(self._made)), **content})
        named: str = info["name"]
        return named

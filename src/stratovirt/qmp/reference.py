"""The reference page docs/qmp.md, from ``schemas/``: ``python -m stratovirt.qmp.reference >docs/qmp.md``.

The law: the page depends on the schemas alone, so that a test can tell if it is fresh.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from stratovirt.qmp import schemas
from stratovirt.qmp.schemas import Schema, type_names

_HEAD = """\
# QMP reference

Generated from [schemas/](../schemas) by `make docs`; do not edit.

A client connects to a `-qmp` socket, or to a `-mon` on a character device, reads the greeting, and sends
commands as JSON objects with the keys `execute`, `arguments` and `id`. Each gets one answer, in order and
with its `id`: a `return` or an `error`. Events come in between.

An argument that a command does not know, or a value that it does not allow, is a `GenericError` that names
it; a command that is not below is `CommandNotFound`. A client may send 100 commands per second: more are
delayed, or refused with `-qmp …,throttle=reject`.
"""


_ARROWS = {"client": "<-", "server": "->"}
"""The manual's notation: what the client sends goes left."""


def page() -> str:
    """The text of the page."""
    contract = schemas.load()
    parts = [_HEAD, _contents("Commands", contract.commands), _contents("Events", contract.events)]
    parts += ["## Commands\n", *(_command(schema) for schema in contract.commands.values())]
    parts += ["## Events\n", *(_event(schema) for schema in contract.events.values())]
    return "\n".join(parts)


def _contents(title: str, files: Mapping[str, Schema]) -> str:
    links = ", ".join(f"[{name}](#{name.lower()})" for name in files)
    return f"{title}: {links}\n"


def _command(schema: Schema) -> str:
    lines = [f"### {schema['title']}", "", schema["description"], ""]
    lines += _section("Arguments", list(_members(schema["arguments"])))
    lines += _section("Returns", list(_returned(schema["returns"])))
    lines += _section("Errors", [f"- `{name}`: {when}" for name, when in schema["x-errors"].items()])
    lines += _section("Events", [f"- [{name}](#{name.lower()})" for name in schema["x-events"]])
    for example in schema["examples"]:
        lines += _example(example)
    return "\n".join(lines)


def _event(schema: Schema) -> str:
    lines = [f"### {schema['title']}", "", schema["description"], ""]
    lines += _section("Data", list(_members(schema["data"])))
    for example in schema["examples"]:
        lines += ["```json", f"-> {_json(example)}", "```", ""]
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"**{title}**", "", *lines, ""] if lines else []


def _returned(schema: Schema) -> Iterator[str]:
    schema = schemas.load().resolve(schema)
    if schema["type"] == "object":
        yield from _members(schema)
    elif schema["type"] == "array":
        element = schemas.load().resolve(schema["items"])
        yield f"A list of {_type(element)}s{':' if element.get('properties') else '.'}"
        members = list(_members(element)) if element["type"] == "object" else []
        yield from ["", *members] if members else []
    else:
        yield f"A {_type(schema)}. {schema.get('description', '')}".rstrip()


def _members(schema: Schema, indent: str = "") -> Iterator[str]:
    """One item per member, those of objects within it below it."""
    schema = schemas.load().resolve(schema)
    required = schema.get("required", ())
    for name, member in schema["properties"].items():
        member = schemas.load().resolve(member)
        optional = "" if name in required else ", optional"
        text = f"{indent}- `{name}` ({_type(member)}{optional})"
        yield f"{text}: {member['description']}" if "description" in member else text
        inner = schemas.load().resolve(member["items"]) if member.get("type") == "array" else member
        if inner.get("type") == "object":
            yield from _members(inner, f"{indent}  ")


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{_json(value)}`" for value in schema["enum"])
    if "type" not in schema:
        return "any value"
    names = " or ".join(type_names(schema))
    return names + _range(schema)


def _range(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    return f" from {schema['minimum']}" if "minimum" in schema else ""


def _example(example: dict[str, Any]) -> list[str]:
    source = "Example of StratoVirt's manual." if "source" in example else "Example."
    lines = [f"{source} {example['note']}" if "note" in example else source, "", "```json"]
    for step in example["transcript"]:
        lines += [
            f"{'<-' if sender == 'client' else '->'} {_json(message)}" for sender, message in step.items()
        ]
    return [*lines, "```", ""]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(page())

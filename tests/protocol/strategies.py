"""Hypothesis strategies of the protocol: JSON values and texts, requests, arguments, cuts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from stratovirt.qmp import schemas
from stratovirt.qmp.protocol.decoding import INTEGER_MAX, INTEGER_MIN
from stratovirt.qmp.schemas import Schema, type_names

CONTRACT = schemas.load()

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(INTEGER_MIN, INTEGER_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
containers = st.lists(values, max_size=4) | st.dictionaries(texts, values, max_size=4) | texts


@st.composite
def json_texts(draw: st.DrawFn, what: st.SearchStrategy[Any] = containers) -> tuple[Any, bytes]:
    """A value and one of the texts that stand for it."""
    value = draw(what)
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, None, 0, 1])),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " : ")])),
    )
    return value, text.encode()


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A well-formed request for some command, known or not."""
    request: dict[str, Any] = {"execute": draw(st.sampled_from(["stop", "query-status"]) | texts)}
    if draw(st.booleans()):
        request["arguments"] = draw(st.dictionaries(texts, values, max_size=3))
    if draw(st.booleans()):
        request["id"] = draw(values)
    return request


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """``stream`` in packets: whole, byte by byte, or cut at random places."""
    places = draw(
        st.just([])
        | st.just(list(range(1, len(stream))))
        | st.lists(st.integers(0, len(stream)), max_size=20).map(sorted)
    )
    ends = [*places, len(stream)]
    return [stream[begin:end] for begin, end in zip([0, *places], ends, strict=True)]


def accepted(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that a schema of our dialect accepts."""
    schema = CONTRACT.resolve(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    return st.one_of(*(_OF_TYPE[kind](schema) for kind in type_names(schema)))


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    required = schema.get("required", [])
    members = {name: accepted(member) for name, member in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: member for name, member in members.items() if name in required},
        optional={name: member for name, member in members.items() if name not in required},
    )


_OF_TYPE: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
    "array": lambda schema: st.lists(accepted(schema["items"]), max_size=schema.get("maxItems", 4)),
    "boolean": lambda schema: st.booleans(),
    "integer": lambda schema: st.integers(
        schema.get("minimum", INTEGER_MIN), schema.get("maximum", INTEGER_MAX)
    ),
    "object": _objects,
    "string": lambda schema: texts.filter(lambda text: len(text) >= schema.get("minLength", 0)),
}

LOOKALIKES: list[Any] = [{}, [], "x", "1", "true", 0, 1, 1.0, 1.5, True, None]
"""Values that a careless check would take for one of another type."""

_IS = {
    "array": lambda value: type(value) is list,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: type(value) is int,
    "object": lambda value: type(value) is dict,
    "string": lambda value: type(value) is str,
}


@st.composite
def refused(draw: st.DrawFn, schema: Schema) -> tuple[dict[str, Any], str]:
    """Arguments with one thing wrong, however deep, and the name of the argument that is wrong."""
    arguments = draw(accepted(schema))
    return arguments, _spoil(draw, schema, arguments)


def _spoil(draw: st.DrawFn, schema: Schema, arguments: dict[str, Any]) -> str:
    """Do one wrong to ``arguments``; the path of what is wrong."""
    members = {name: CONTRACT.resolve(member) for name, member in schema["properties"].items()}
    objects = [name for name, member in members.items() if member["type"] == "object"]
    places = {
        "missing": schema.get("required", []),
        "type": sorted(members),
        "value": [name for name, member in members.items() if member.keys() & BOUNDS],
        "within": [name for name in objects if name in arguments],
    }
    fault = draw(st.sampled_from(["extra", *(kind for kind, names in places.items() if names)]))
    if fault == "extra":
        name = draw(st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda word: word not in members))
        arguments[name] = draw(scalars)
        return name
    name = draw(st.sampled_from(places[fault]))
    member = members[name]
    if fault == "within":
        return f"{name}.{_spoil(draw, member, arguments[name])}"
    if fault == "missing":
        del arguments[name]
    elif fault == "type":
        arguments[name] = draw(st.sampled_from(_wrong_types(member)))
    else:
        arguments[name] = draw(st.sampled_from(_wrong_values(member)))
    return name


BOUNDS = {"minimum", "maximum", "minLength", "enum"}


def _wrong_types(schema: Schema) -> list[Any]:
    kinds = type_names(schema)
    return [value for value in LOOKALIKES if not any(_IS[kind](value) for kind in kinds)]


def _wrong_values(schema: Schema) -> list[Any]:
    """Of the right type, and beyond a bound."""
    wrong: list[Any] = []
    if "minimum" in schema:
        wrong.append(schema["minimum"] - 1)
    if "maximum" in schema:
        wrong.append(schema["maximum"] + 1)
    if "minLength" in schema:
        wrong.append("x" * (schema["minLength"] - 1))
    if "enum" in schema:
        wrong += ["", "nothing like it"]
    return wrong

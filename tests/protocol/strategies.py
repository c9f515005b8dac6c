"""Hypothesis strategies of the protocol: JSON values and texts, requests, arguments, cuts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from stratovirt.qmp.protocol.decoding import INTEGER_MAX, INTEGER_MIN
from stratovirt.qmp.schemas import Schema

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
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    return _OF_TYPE[schema["type"]](schema)


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

WRONG_TYPES: dict[str, list[Any]] = {
    "array": [{}, "x", 1, True, None],
    "boolean": [0, "true", None, []],
    "integer": [1.0, 1.5, "1", True, None, []],
    "object": [[], "x", 1, None],
    "string": [1, 1.5, True, None, [], {}],
}
"""For each type, values that a careless check would let through."""


@st.composite
def refused(draw: st.DrawFn, schema: Schema) -> tuple[dict[str, Any], str]:
    """Arguments with one thing wrong, and the name of the argument that is wrong."""
    arguments = draw(accepted(schema))
    kinds = ["extra"]
    kinds += ["missing"] * bool(schema.get("required"))
    kinds += ["type"] * bool(schema["properties"])
    ranged = [name for name, member in schema["properties"].items() if member.keys() & {"minimum", "maximum"}]
    kinds += ["range"] * bool(ranged)
    match draw(st.sampled_from(kinds)):
        case "missing":
            name = draw(st.sampled_from(schema["required"]))
            del arguments[name]
        case "type":
            name = draw(st.sampled_from(sorted(schema["properties"])))
            arguments[name] = draw(st.sampled_from(WRONG_TYPES[schema["properties"][name]["type"]]))
        case "range":
            name = draw(st.sampled_from(ranged))
            member = schema["properties"][name]
            beyond = [member["minimum"] - 1] if "minimum" in member else []
            beyond += [member["maximum"] + 1] if "maximum" in member else []
            arguments[name] = draw(st.sampled_from(beyond))
        case _:
            name = draw(
                st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda n: n not in schema["properties"])
            )
            arguments[name] = draw(values)
    return arguments, name

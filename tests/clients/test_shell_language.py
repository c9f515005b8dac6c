"""What is typed becomes the request that was meant; what the server tells becomes completion and help."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from stratovirt.tools.qmp import syntax, tables
from stratovirt.tools.qmp.terminal import WordCompleter
from stratovirt.tools.qmp.vocabulary import Vocabulary

# QEMU's SchemaInfo: a command with one argument of each kind.
SCHEMA: list[dict[str, Any]] = [
    {"name": "blockdev-add", "meta-type": "command", "arg-type": "opts", "ret-type": "0"},
    {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "STOP", "meta-type": "event", "arg-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
    {
        "name": "opts",
        "meta-type": "object",
        "members": [
            {"name": "driver", "type": "driver"},
            {"name": "cache", "type": "cache", "default": None},
            {"name": "tags", "type": "[str]", "default": None},
            {"name": "where", "type": "either", "default": None},
            {"name": "throttling.iops-total", "type": "int", "default": None},
        ],
        "tag": "driver",
        "variants": [{"case": "file", "type": "file"}, {"case": "null", "type": "0"}],
    },
    {"name": "driver", "meta-type": "enum", "values": ["file", "null"]},
    {"name": "file", "meta-type": "object", "members": [{"name": "filename", "type": "str"}]},
    {
        "name": "cache",
        "meta-type": "object",
        "members": [{"name": "direct", "type": "bool", "default": None}],
    },
    {"name": "either", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "cache"}]},
    {"name": "[str]", "meta-type": "array", "element-type": "str"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
]
VOCABULARY = Vocabulary(SCHEMA)

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def request(line: str) -> syntax.Request:
    return syntax.parse(syntax.split(line))


@pytest.mark.parametrize(
    ("line", "command", "arguments"),
    [
        ("query-status", "query-status", {}),
        ("  stop  ", "stop", {}),
        ("device_add id=net0 addr=0x1", "device_add", {"id": "net0", "addr": "0x1"}),
        ("balloon value=1024", "balloon", {"value": 1024}),
        ('x id="1" on=true off=null', "x", {"id": "1", "on": True, "off": None}),
        ('x data={"a": [1, 2]} b=[ ]', "x", {"data": {"a": [1, 2]}, "b": []}),
        ("x text=a=b", "x", {"text": "a=b"}),
        ("x text=", "x", {"text": ""}),
        (
            "x file.driver=file file.cache.direct=true",
            "x",
            {"file": {"driver": "file", "cache": {"direct": True}}},
        ),
        ('{"execute": "stop"}', "stop", {}),
        ('{"execute": "x", "arguments": {"a b": 1}}', "x", {"a b": 1}),
    ],
)
def test_a_line_is_the_request_that_was_meant(line: str, command: str, arguments: dict[str, Any]) -> None:
    assert request(line) == (command, arguments)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x y", "'y' is not key=value"),
        ("x =y", "'=y' is not key=value"),
        ("x a=1 a=2", "'a' is given twice"),
        ("x a=1 a.b=2", "'a' is a value and an object at once"),
        ('x a={"b": ', "this is no JSON"),
        ("{", "this is no JSON"),
        ('{"execute": 1}', "a request is"),
        ('{"execute": "x", "id": 1}', "a request is"),
    ],
)
def test_a_slip_is_one_sentence(line: str, words: str) -> None:
    with pytest.raises(syntax.Mistyped, match=words):
        request(line)


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=4))
def test_json_values_read_back(command: str, arguments: dict[str, Any]) -> None:
    line = " ".join([command, *(f"{name}={json.dumps(item)}" for name, item in arguments.items())])
    assert request(line) == (command, arguments)


@given(st.text(max_size=60))
def test_any_line_is_a_request_or_a_slip(line: str) -> None:
    try:
        words = syntax.split(line)
        command, arguments = syntax.parse(words) if words else ("", {})
    except syntax.Mistyped:
        return
    assert isinstance(command, str)
    assert isinstance(arguments, dict)


def test_a_dot_that_belongs_to_a_name_stays_in_it() -> None:
    is_name = lambda command, key: VOCABULARY.member(command, key) is not None and "iops" in key  # noqa: E731
    words = syntax.split("blockdev-add throttling.iops-total=5 cache.direct=true")
    assert syntax.parse(words, is_name)[1] == {"throttling.iops-total": 5, "cache": {"direct": True}}


@pytest.mark.parametrize(
    ("typed", "candidates"),
    [
        ("st", ["stop"]),
        ("help b", ["help blockdev-add"]),
        ("blockdev-add ", ["driver=", "cache.", "tags=", "where=", "throttling.iops-total=", "filename="]),
        ("blockdev-add driver=file fi", ["filename="]),
        ("blockdev-add driver=file dr", []),
        ("blockdev-add driver=n", ["driver=null"]),
        ("blockdev-add cache.d", ["cache.direct="]),
        ("blockdev-add cache.direct=t", ["cache.direct=true"]),
        ("blockdev-add where.", ["where.direct="]),
        ("blockdev-add nothing.d", []),
        ("unknown-command x", []),
    ],
)
def test_completion_offers_what_the_schema_has(typed: str, candidates: list[str]) -> None:
    found = WordCompleter(VOCABULARY).get_completions(Document(typed), CompleteEvent())
    word = typed.rpartition(" ")[2]
    expected = [candidate.removeprefix("help ") for candidate in candidates]
    assert [completion.text for completion in found] == expected
    assert all(candidate.startswith(word) for candidate in expected)


@pytest.mark.parametrize(
    ("type", "words"),
    [
        ("str", "string"),
        ("driver", "file|null"),
        ("[str]", "[string, …]"),
        ("either", "string or object"),
        ("nobody told", "object"),
    ],
)
def test_types_are_described_for_people(type: str, words: str) -> None:
    assert VOCABULARY.describe(type) == words


def test_usage_names_what_lies_within_objects() -> None:
    assert VOCABULARY.usage("blockdev-add") == [
        "driver=file|null",
        "[cache.direct=boolean]",
        "[tags=[string, …]]",
        "[where=string or object]",
        "[throttling.iops-total=int]",
        "[filename=string]",
    ]


def test_usage_of_a_type_within_itself_ends() -> None:
    tree = {"name": "tree", "meta-type": "object", "members": [{"name": "left", "type": "tree"}]}
    plant = {"name": "plant", "meta-type": "command", "arg-type": "tree", "ret-type": "tree"}
    assert Vocabulary([tree, plant]).usage("plant") == ["left.left=object"]


def test_names_of_commands_are_enough() -> None:
    vocabulary = Vocabulary((), ["stop", "cont"])
    assert vocabulary.commands == ["cont", "stop"]
    assert vocabulary.arguments("stop") == []


def test_an_object_is_two_columns() -> None:
    assert tables.show({"a": {"bc": 1}, "d": "x", "e": []}, 80) == "a.bc  1\nd     x\ne     []"
    assert tables.show({}, 80) == ""


def test_a_list_of_objects_is_a_table_or_what_fits() -> None:
    rows = [{"label": "console", "open": True}, {"label": "x", "more": None}]
    assert tables.show(rows, 80) == "label    open  more\nconsole  true  -\nx        -     null"
    assert tables.show(rows, 10) == "label  console\nopen   true\n\nlabel  x\nmore   null"


def test_other_results_are_shown_as_they_are() -> None:
    assert tables.show("VM status: paused\r\n", 80) == "VM status: paused"
    assert tables.show([1, "a"], 80) == "1\na"
    assert tables.show(["a", {}], 80) == "a\n{}"
    assert tables.show(7, 80) == "7"
    assert tables.show([], 80) == ""


@given(VALUES, st.integers(1, 200))
def test_any_result_can_be_shown(result: Any, width: int) -> None:
    assert isinstance(tables.show(result, width), str)


@given(st.lists(NAMES), st.integers(1, 200))
def test_columns_have_every_word(words: list[str], width: int) -> None:
    assert sorted(tables.columns(words, width).split()) == sorted(words)

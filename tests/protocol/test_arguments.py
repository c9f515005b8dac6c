"""Arguments: what the schema allows is never refused; each single fault is, by the argument's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratovirt.errors import CommandError
from stratovirt.qmp import generate, schemas
from stratovirt.qmp.arguments import NoArguments, QmpCapabilities
from stratovirt.qmp.commands import HANDLERS
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.registry import Registry, RegistryError
from stratovirt.qmp.schemas import Schema
from stratovirt.qmp.validation import Validators, problem
from tests.protocol import strategies

CONTRACT = schemas.load()
REGISTRY = Registry(CONTRACT, HANDLERS)

EVERY_TYPE: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "value": {"type": "integer", "minimum": 0, "maximum": 255},
        "read-only": {"type": "boolean"},
        "kind": {"type": "string", "enum": ["file", "host_device"]},
        "fds": {"type": "array", "items": {"type": "string"}},
        "file": {
            "type": "object",
            "properties": {"filename": {"type": "string"}, "locking": {"type": "boolean"}},
            "required": ["filename"],
            "additionalProperties": False,
        },
    },
    "required": ["id"],
    "additionalProperties": False,
}
"""Arguments of an invented command that uses the whole dialect."""


def complaint(arguments: Any, schema: Schema = EVERY_TYPE) -> str | None:
    """What validation says of ``arguments``."""
    file = {"$id": f"{schemas.BASE}commands/invented.json", "arguments": schema}
    validators = Validators(replace(CONTRACT, commands={"invented": file}))
    return problem(validators.of(file, "/arguments").iter_errors(arguments))


# Those without any have one and the same schema.
WITH_ARGUMENTS = [name for name, schema in CONTRACT.commands.items() if schema["arguments"]["properties"]]
commands = pytest.mark.parametrize("name", ["stop", *WITH_ARGUMENTS])
some = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def as_given(typed: Any, given_arguments: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``typed`` that stand for ``given_arguments``, as they would be on the wire."""
    return {
        name: as_given(field, value) if isinstance(value, dict) else field
        for name, value in given_arguments.items()
        for field in [getattr(typed, generate.field_name(name))]
    }


@commands
@some
@given(data=st.data())
def test_valid_arguments_are_never_refused(name: str, data: st.DataObject) -> None:
    command = REGISTRY.find(name)
    arguments = data.draw(strategies.accepted(command.schema["arguments"]))
    assert as_given(REGISTRY.typed(command, arguments), arguments) == arguments


def test_commands_without_arguments_share_one_schema() -> None:
    bare = [CONTRACT.commands[name]["arguments"] for name in CONTRACT.commands.keys() - set(WITH_ARGUMENTS)]
    assert all(schema == bare[0] for schema in bare)


@commands
@some
@given(data=st.data())
def test_a_single_fault_is_refused_with_the_commands_and_the_arguments_name(
    name: str, data: st.DataObject
) -> None:
    command = REGISTRY.find(name)
    arguments, wrong = data.draw(strategies.refused(command.schema["arguments"]))
    with pytest.raises(CommandError) as refusal:
        REGISTRY.typed(command, arguments)
    assert refusal.value.error_class == "GenericError"
    assert refusal.value.desc.startswith(f"{name}: ")
    assert f"'{wrong}'" in refusal.value.desc


@given(strategies.accepted(EVERY_TYPE))
def test_the_whole_dialect_accepts_what_it_should(arguments: dict[str, Any]) -> None:
    assert complaint(arguments) is None


@given(strategies.refused(EVERY_TYPE))
def test_the_whole_dialect_names_what_is_wrong(pair: tuple[dict[str, Any], str]) -> None:
    arguments, wrong = pair
    assert f"'{wrong}'" in str(complaint(arguments))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"id": "a", "valeu": 1}, "unknown argument 'valeu' (did you mean 'value'?)"),
        ({"id": "a", "xyz": 1}, "unknown argument 'xyz'"),
        ({"idd": "a"}, "unknown argument 'idd' (did you mean 'id'?)"),
        ({}, "argument 'id' is missing"),
        ({"id": "a", "value": 1.0}, "argument 'value' is 1.0 (a number), not an integer"),
        ({"id": "a", "value": True}, "argument 'value' is true (a boolean), not an integer"),
        ({"id": "a", "value": "1"}, "argument 'value' is \"1\" (a string), not an integer"),
        ({"id": "a", "value": -1}, "argument 'value' is -1, less than the minimum of 0"),
        ({"id": "a", "value": 256}, "argument 'value' is 256, more than the maximum of 255"),
        ({"id": "a", "kind": "fiel"}, 'argument \'kind\' is "fiel"; allowed: "file", "host_device"'),
        ({"id": "a", "fds": ["x", 1]}, "argument 'fds[1]' is 1 (a number), not a string"),
        ({"id": "a", "file": {}}, "argument 'file.filename' is missing"),
        (
            {"id": "a", "file": {"filename": "x", "lock": 1}},
            "unknown argument 'file.lock' (did you mean 'file.locking'?)",
        ),
        ({"id": ""}, "argument 'id' is \"\", shorter than the minimum of 1"),
        ({"id": {"a": [1] * 1000}}, "argument 'id' is {…} (an object), not a string"),
    ],
)
def test_the_error_is_a_sentence_with_argument_value_and_reason(arguments: Any, text: str) -> None:
    assert complaint(arguments) == text


def test_a_value_of_any_size_is_quoted_in_part() -> None:
    text = complaint({"id": "a", "value": "x" * 100_000})
    assert text is not None
    assert len(text) < 200


def test_a_command_without_arguments_says_that_there_are_none() -> None:
    with pytest.raises(CommandError, match=r"^stop: unknown argument 'force' \(there are none\)$"):
        REGISTRY.typed(REGISTRY.find("stop"), {"force": True})


def test_an_unknown_command_is_not_found_and_the_nearest_is_named() -> None:
    with pytest.raises(CommandError, match=r"'query-stats'.*did you mean 'query-status'") as refusal:
        REGISTRY.find("query-stats")
    assert refusal.value.error_class == "CommandNotFound"


def test_handlers_get_their_commands_type() -> None:
    assert REGISTRY.typed(REGISTRY.find("stop"), {}) == NoArguments()
    assert REGISTRY.typed(REGISTRY.find("qmp_capabilities"), {"enable": ["oob"]}) == QmpCapabilities(["oob"])


class TestRegistry:
    def test_a_handler_without_schema_is_refused(self) -> None:
        @command("fly")
        async def fly(context: Context, arguments: NoArguments) -> Reply:
            return Reply()

        with pytest.raises(RegistryError, match="handler without schema: fly"):
            Registry(CONTRACT, [*HANDLERS, fly])

    def test_a_schema_without_handler_is_refused(self) -> None:
        with pytest.raises(RegistryError, match="schema without handler: cont, stop"):
            Registry(CONTRACT, [handler for handler in HANDLERS if handler.name not in {"stop", "cont"}])

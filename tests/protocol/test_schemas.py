"""The schemas are the contract: well-formed in their dialect, complete, and kept by a running server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio

from stratovirt.machine.control import RunState
from stratovirt.machine.events import (
    BalloonMoved,
    Cause,
    DeviceDeleted,
    Event,
    PowerdownRequested,
    Resumed,
    ShutDown,
    Stopped,
    WasReset,
)
from stratovirt.qmp import arguments, events, generate, reference, schemas
from stratovirt.qmp.schemas import Schema
from stratovirt.qmp.validation import StrictValidator
from tests.protocol.client import check_message, validators
from tests.protocol.fakes import carry_out_quit, supervised

CONTRACT = schemas.load()
MANUAL = {
    *("blockdev-add", "blockdev-del", "netdev_add", "netdev_del", "chardev-add", "chardev-remove"),
    *("device_add", "device_del", "balloon", "query-balloon", "migrate", "query-migrate"),
    *("stop", "cont", "quit", "query-status", "getfd"),
}
"""Commands of the manual; it has an example for each."""
CLIENTS = {
    *("qmp_capabilities", "system_reset", "system_powerdown", "query-version", "query-commands"),
    *("query-events", "query-kvm", "query-target", "query-machines", "query-name", "query-uuid"),
    *("query-cpus", "query-cpus-fast", "query-hotpluggable-cpus", "query-chardev", "query-block"),
    *("query-named-block-nodes", "query-blockstats", "query-iothreads", "query-memory-size-summary"),
    *("query-qmp-schema", "migrate_cancel", "query-migrate-capabilities", "human-monitor-command"),
    *("qom-list-types", "device-list-properties", "query-command-line-options", "query-block-jobs"),
    *("closefd", "query-mem-gpa", "ringbuf-read"),
}
"""Commands that known clients send besides."""
BEFORE = {"cont": RunState.PAUSED}
"""The state that a command's example needs, where it is not running."""
NEED_A_DESCRIPTOR = {"getfd", "closefd"}
AS_SENT = CONTRACT.commands.keys() - NEED_A_DESCRIPTOR
"""Commands whose examples can be sent to a bare machine as they are."""
WITHOUT_CAUSE = {"DEVICE_UNPLUG_GUEST_ERROR"}
"""Events of devices that are not built."""


def named(files: Mapping[str, Schema]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "schema"), files.items(), ids=list(files))


def test_the_dialect_is_itself_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(CONTRACT.others["meta"])


@named({schema["$id"].removeprefix(schemas.BASE): schema for schema in CONTRACT.all()})
def test_each_file_is_a_json_schema_in_the_dialect_and_identifies_itself_by_its_path(
    name: str, schema: Schema
) -> None:
    root = Path(schemas.__file__).parent.parent / "schemas"
    assert json.loads((root / name).read_text("utf-8")) == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    if name != "meta.json":
        StrictValidator(CONTRACT.others["meta"]).validate(schema)


@named({**CONTRACT.commands, **CONTRACT.events})
def test_each_command_and_event_file_has_the_name_of_what_it_describes(name: str, schema: Schema) -> None:
    assert schema["title"] == name


@named({name: schema for name, schema in CONTRACT.others.items() if "examples" in schema})
def test_examples_of_messages_are_valid(name: str, schema: Schema) -> None:
    for example in schema["examples"]:
        validators().of(schema).validate(example)


@named(CONTRACT.events)
def test_examples_of_events_are_valid(name: str, schema: Schema) -> None:
    for example in schema["examples"]:
        assert check_message(json.dumps(example, separators=(",", ":")).encode())["event"] == name


@named(CONTRACT.commands)
def test_examples_of_commands_are_valid_and_name_only_events_that_the_command_causes(
    name: str, schema: Schema
) -> None:
    for example in schema["examples"]:
        for step in example["transcript"]:
            if "client" in step:
                validators().of(CONTRACT.others["request"]).validate(step["client"])
                validators().of(schema, "/arguments").validate(step["client"].get("arguments", {}))
            else:
                line = json.dumps(step["server"], separators=(",", ":")).encode()
                message = check_message(line, None if "event" in step["server"] else name)
                assert message.get("event") in {None, *schema["x-events"]}
    assert set(schema["x-events"]) <= CONTRACT.events.keys()


def test_every_command_that_known_clients_send_has_its_contract() -> None:
    assert CONTRACT.commands.keys() == MANUAL | CLIENTS


def test_the_manuals_example_is_there_for_each_of_its_commands() -> None:
    sources = {
        name for name, schema in CONTRACT.commands.items() if schema["examples"][0].get("source") == "manual"
    }
    assert sources == MANUAL


@named({name: schema for name, schema in CONTRACT.commands.items() if name in AS_SENT})
async def test_each_example_sent_literally_gets_its_replies_and_events_in_its_order(
    autojump_clock: trio.abc.Clock, name: str, schema: Schema
) -> None:
    for example in schema["examples"]:
        if example["transcript"][-1] == {"server": {"return": {"status": "completed"}}}:
            continue  # of a snapshot
        async with supervised() as here:
            here.control.state = BEFORE.get(name, RunState.RUNNING)
            here.control.memory = {0x1_3C4D_1D00: 0xB900_0001}
            here.nursery.start_soon(carry_out_quit, here.control, here.server)
            client = await here.client()
            for step in example["transcript"]:
                if "client" in step:
                    await client.send(json.dumps(step["client"]).encode(), name)
                else:
                    assert shape(await client.next()) == shape(step["server"])


def shape(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what differs from run to run: time, and how long a list is."""
    fixed = {key: value for key, value in message.items() if key != "timestamp"}
    if isinstance(fixed.get("return"), list):
        fixed["return"] = sorted({key for entry in fixed["return"] for key in entry})
    return fixed


def test_every_domain_event_has_a_schema_for_its_wire_form_and_every_event_schema_an_event() -> None:
    seen = set()
    happened: list[Event] = [
        Stopped(),
        Resumed(),
        PowerdownRequested(),
        DeviceDeleted("net-0"),
        BalloonMoved(1),
    ]
    for event in [*happened, *map(WasReset, Cause), *map(ShutDown, Cause)]:
        name, data = events.wire(event)
        validators().of(CONTRACT.events[name], "/data").validate(data)
        seen.add(name)
    assert seen == CONTRACT.events.keys() - WITHOUT_CAUSE


def test_the_generated_types_of_arguments_are_fresh() -> None:
    assert generate.OUTPUT.read_text("utf-8") == generate.source(), "run make docs"
    assert arguments.BY_COMMAND.keys() == CONTRACT.commands.keys()


def test_the_reference_page_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "qmp.md"
    assert page.read_text("utf-8") == reference.page(), "run make docs"

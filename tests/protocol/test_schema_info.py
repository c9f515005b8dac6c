"""query-qmp-schema: complete, closed, and in the form of QEMU's qapi/introspect.json."""

from __future__ import annotations

from typing import Any

from stratovirt.qmp import schemas
from stratovirt.qmp.schemainfo import schema_info

CONTRACT = schemas.load()
INFOS = schema_info(CONTRACT)
BY_NAME = {info["name"]: info for info in INFOS}

MEMBERS = {
    "command": {"name", "meta-type", "arg-type", "ret-type", "allow-oob"},
    "event": {"name", "meta-type", "arg-type"},
    "builtin": {"name", "meta-type", "json-type"},
    "enum": {"name", "meta-type", "members", "values"},
    "array": {"name", "meta-type", "element-type"},
    "object": {"name", "meta-type", "members"},
    "alternate": {"name", "meta-type", "members"},
}


def references(info: dict[str, Any]) -> list[str]:
    """The types that an entity names."""
    if info["meta-type"] == "enum":
        return []
    named = [info[key] for key in ("arg-type", "ret-type", "element-type") if key in info]
    return named + [member["type"] for member in info.get("members", [])]


def arguments(command: str) -> dict[str, Any]:
    """Member name to type of a command's arguments."""
    return {member["name"]: member for member in BY_NAME[BY_NAME[command]["arg-type"]]["members"]}


def test_names_are_unique_and_every_type_that_is_named_is_there() -> None:
    assert len(BY_NAME) == len(INFOS)
    assert {name for info in INFOS for name in references(info)} <= BY_NAME.keys()


def test_no_type_is_there_that_nothing_names() -> None:
    entities = {info["name"] for info in INFOS if info["meta-type"] in ("command", "event")}
    assert BY_NAME.keys() - entities == {name for info in INFOS for name in references(info)}


def test_every_command_and_event_is_there_and_nothing_else_under_a_name() -> None:
    by_meta = {
        meta: {info["name"] for info in INFOS if info["meta-type"] == meta} for meta in ("command", "event")
    }
    assert by_meta == {"command": CONTRACT.commands.keys(), "event": CONTRACT.events.keys()}


def test_each_entity_has_the_members_of_its_kind() -> None:
    for info in INFOS:
        assert info.keys() == MEMBERS[info["meta-type"]], info


def test_optional_members_have_a_default_and_required_ones_none() -> None:
    members = arguments("blockdev-add")
    assert {name for name, member in members.items() if "default" not in member} == {"node-name", "file"}


def test_members_have_their_types_however_deep() -> None:
    file = BY_NAME[arguments("blockdev-add")["file"]["type"]]
    types = {member["name"]: member["type"] for member in file["members"]}
    assert types["filename"] == "str"
    assert BY_NAME[types["driver"]]["values"] == ["file", "host_device"]


def test_what_clients_send_in_two_forms_is_an_alternate_of_both() -> None:
    vhost = BY_NAME[arguments("netdev_add")["vhost"]["type"]]
    assert vhost["meta-type"] == "alternate"
    kinds = [BY_NAME[member["type"]]["meta-type"] for member in vhost["members"]]
    assert kinds == ["builtin", "enum"]


def test_equal_types_are_one() -> None:
    assert BY_NAME["stop"]["arg-type"] == BY_NAME["cont"]["ret-type"]

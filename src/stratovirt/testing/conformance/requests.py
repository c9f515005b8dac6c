"""Checks of requests and the shape of their answers."""

from __future__ import annotations

import json
from typing import Any

from stratovirt.testing.conformance.wire import Server, require

IDS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, (1 << 63) - 1, -(1 << 63)),
    *("", "libvirt-1", 'quote " and \\ and \n', "é 😀 \0"),
    *([], [1, [2, {"x": None}]], {}, {"a": {"b": [1.25, "c"]}}),
)
MALFORMED: tuple[Any, ...] = (
    {},
    {"execute": 1},
    {"execute": None},
    {"execute": ["query-status"]},
    {"execute": "query-status", "arguments": []},
    {"execute": "query-status", "arguments": "x"},
    {"execute": "query-status", "surprise": 1},
)


async def an_id_of_any_json_type_is_echoed(server: Server) -> None:
    async with server.session() as wire:
        for id in IDS:
            answer = await wire.execute("query-status", id=id)
            require("return" in answer, f"id {id!r}: {answer}")
            same = json.dumps(answer.get("id", "none"), sort_keys=True) == json.dumps(id, sort_keys=True)
            require("id" in answer and same, f"id {id!r} comes back as {answer.get('id', 'none')!r}")


async def without_an_id_none_is_echoed(server: Server) -> None:
    async with server.session() as wire:
        for command in ("query-status", "no-such-command"):
            require("id" not in await wire.execute(command), f"{command}: an id nobody sent")


async def answers_come_in_the_order_of_requests(server: Server) -> None:
    async with server.session() as wire:
        names = ["query-status", "no-such-command", "query-commands", "query-version"] * 10
        requests = [{"execute": name, "id": number} for number, name in enumerate(names)]
        await wire.send("".join(map(json.dumps, requests)).encode())
        ids = [(await wire.answer()).get("id") for _ in names]
        require(ids == list(range(len(names))), f"ids come back as {ids}")


async def an_unknown_command_is_command_not_found_with_its_name(server: Server) -> None:
    async with server.session() as wire:
        answer = await wire.execute("no-such-command", id="x")
        require(answer.get("error", {}).get("class") == "CommandNotFound", f"{answer}")
        require("no-such-command" in answer["error"]["desc"], f"desc does not name it: {answer}")
        require(answer.get("id") == "x", f"no id: {answer}")


async def an_unknown_argument_is_refused_by_its_name(server: Server) -> None:
    async with server.session() as wire:
        answer = await wire.execute("query-status", {"surprise": 1}, id=[2])
        require(answer.get("error", {}).get("class") == "GenericError", f"{answer}")
        require("surprise" in answer["error"]["desc"], f"desc does not name it: {answer}")
        require(answer.get("id") == [2], f"no id: {answer}")


async def a_malformed_request_is_refused_with_its_id(server: Server) -> None:
    async with server.session() as wire:
        for request in MALFORMED:
            await wire.send(json.dumps({**request, "id": "m"}).encode())
            answer = await wire.answer()
            require("error" in answer, f"{request}: {answer}")
            require(answer.get("id") == "m", f"{request}: no id: {answer}")


async def what_is_no_object_is_refused(server: Server) -> None:
    async with server.session() as wire:
        for text in (b"[]", b"[1,2]", b'"execute"\n', b"17\n", b"null\n", b"true\n"):
            await wire.send(text)
            require("error" in await wire.answer(), f"{text!r} is accepted")
        require("return" in await wire.execute("query-status"), "the session is stuck afterwards")


async def query_commands_lists_what_is_there(server: Server) -> None:
    async with server.session() as wire:
        commands = {entry["name"] for entry in (await wire.execute("query-commands"))["return"]}
        missing = {"qmp_capabilities", "query-commands", "query-status", "query-version", "quit"} - commands
        require(not missing, f"not listed: {sorted(missing)}")
        require("no-such-command" not in commands, "it lists anything")


CHECKS = (
    an_id_of_any_json_type_is_echoed,
    without_an_id_none_is_echoed,
    answers_come_in_the_order_of_requests,
    an_unknown_command_is_command_not_found_with_its_name,
    an_unknown_argument_is_refused_by_its_name,
    a_malformed_request_is_refused_with_its_id,
    what_is_no_object_is_refused,
    query_commands_lists_what_is_there,
)

"""Checks of a connection's beginning."""

from __future__ import annotations

from stratovirt.testing.conformance.wire import Message, Server, require


async def the_greeting_comes_first_and_unasked(server: Server) -> None:
    async with server.raw() as wire:
        greeting = (await wire.message())["QMP"]
        require(isinstance(greeting.get("capabilities"), list), f"capabilities is no list: {greeting}")
        qemu = greeting.get("version", {}).get("qemu", {})
        numbers = [qemu.get(part) for part in ("major", "minor", "micro")]
        require(all(type(number) is int for number in numbers), f"no version of QEMU: {greeting}")


async def the_greeting_comes_before_answers_to_an_eager_client(server: Server) -> None:
    async with server.raw() as wire:
        await wire.ask("qmp_capabilities", id=1)
        require("QMP" in await wire.message(), "an answer before the greeting")
        require(await wire.answer() == {"return": {}, "id": 1}, "negotiation is refused")


async def negotiation_takes_no_arguments_an_empty_object_or_an_empty_list(server: Server) -> None:
    choices: tuple[Message | None, ...] = (None, {}, {"enable": []})
    for arguments in choices:
        async with server.raw() as wire:
            await wire.message()
            answer = await wire.execute("qmp_capabilities", arguments)
            require(answer == {"return": {}}, f"arguments {arguments}: {answer}")


async def a_capability_that_was_not_offered_is_refused(server: Server) -> None:
    async with server.raw() as wire:
        await wire.message()
        answer = await wire.execute("qmp_capabilities", {"enable": ["telepathy"]})
        require("error" in answer, f"it is accepted: {answer}")
        require("return" in await wire.execute("qmp_capabilities"), "negotiation fails afterwards")


async def commands_before_negotiation_are_treated_as_the_dialect_says(server: Server) -> None:
    async with server.raw() as wire:
        await wire.message()
        answer = await wire.execute("query-status")
        require(("error" in answer) == server.dialect.negotiation_required, f"{answer}")


async def a_second_negotiation_is_treated_as_the_dialect_says(server: Server) -> None:
    async with server.session() as wire:
        answer = await wire.execute("qmp_capabilities")
        require(("error" in answer) == server.dialect.negotiation_required, f"{answer}")


CHECKS = (
    the_greeting_comes_first_and_unasked,
    the_greeting_comes_before_answers_to_an_eager_client,
    negotiation_takes_no_arguments_an_empty_object_or_an_empty_list,
    a_capability_that_was_not_offered_is_refused,
    commands_before_negotiation_are_treated_as_the_dialect_says,
    a_second_negotiation_is_treated_as_the_dialect_says,
)

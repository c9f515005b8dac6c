"""A line in, text out.

The law: whatever the line, there is an answer and no exception; nothing is done that QMP would refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stratovirt.errors import CommandError
from stratovirt.hmp.table import COMMANDS, HELP, INFO, TOPICS, Command
from stratovirt.hmp.words import Misused
from stratovirt.machine.inventory import NetworkInfo
from stratovirt.qmp.dispatcher import Dispatcher
from stratovirt.qmp.protocol import Request
from stratovirt.qmp.registry import Registry


@dataclass(frozen=True)
class Answer:
    """What a line is answered.

    :ivar text: lines, each ended by CR LF as in QEMU, or nothing; no other control characters.
    :ivar then: called once the text is on its way, before anything else happens.
    """

    text: str
    then: Callable[[], None] | None = None


class Interpreter:
    """Understands lines and has them carried out. It keeps nothing between them: one serves everybody.

    :param networks: of :class:`Inventory`: what ``info network`` shows, for which QMP has no query.
    """

    def __init__(
        self, dispatcher: Dispatcher, registry: Registry, networks: Callable[[], Sequence[NetworkInfo]]
    ) -> None:
        self._dispatcher = dispatcher
        self._registry = registry
        self._networks = networks

    async def run(self, line: str) -> Answer:
        """Carry out one line. Raises nothing but cancellation."""
        word, rest = _cut(line)
        if not word:
            return Answer("")
        command = _find(self._known(COMMANDS), word)
        if command is None:
            return _answer(f"unknown command: '{word}'\n")
        if command is HELP:
            return _answer(self._help(rest))
        if command is INFO:
            return await self._info(rest)
        return await self._execute(command, rest, "")

    def complete(self, line: str) -> list[str]:
        """The words that the last one of ``line``, perhaps empty, may become."""
        *before, last = line.split(" ")
        table = self._table([word for word in before if word])
        return [command.name for command in table if command.name.startswith(last)]

    def _table(self, before: list[str]) -> list[Command]:
        """What may follow the words ``before``."""
        if before and before[0] in HELP.names:
            before = before[1:]
        if before == [INFO.name]:
            return self._known(TOPICS)
        return [] if before else self._known(COMMANDS)

    def _known(self, table: Iterable[Command]) -> list[Command]:
        """Those whose QMP command this server has."""
        known = self._registry.commands
        return [command for command in table if command.executes is None or command.executes in known]

    def _help(self, rest: str) -> str:
        word, topic = _cut(rest)
        if word == INFO.name:
            return self._help_info(topic)
        commands = self._known(COMMANDS)
        if not word:
            return "".join(command.usage() for command in commands)
        command = _find(commands, word)
        return command.usage() if command else f"unknown command: '{word}'\n"

    def _help_info(self, topic: str) -> str:
        topics = self._known(TOPICS)
        if topic:
            found = _find(topics, topic)
            topics = [found] if found else []
        return "".join(command.usage("info ") for command in topics) or f"unknown command: 'info {topic}'\n"

    async def _info(self, rest: str) -> Answer:
        word, rest = _cut(rest)
        if not word:
            return _answer(self._help_info(""))
        topic = _find(self._known(TOPICS), word)
        if topic is None:
            return _answer(f"unknown command: 'info {word}'\n")
        return await self._execute(topic, rest, "info ")

    async def _execute(self, command: Command, rest: str, prefix: str) -> Answer:
        try:
            arguments = command.read(rest)
            if command.executes is None:
                return _answer(command.show(self._networks()))
            outcome = await self._dispatcher.run(Request(command.executes, arguments))
        except Misused as misused:
            name = prefix + command.name
            return _answer(f'{name}: {misused}\nTry "help {name}" for more information\n')
        except CommandError as error:
            return _answer(f"Error: {error.desc}\n")
        shown = _answer(command.show(json.loads(outcome.result)))
        return Answer(shown.text, outcome.then)


def _cut(text: str) -> tuple[str, str]:
    """The first word, and the rest without the space around it."""
    word, *rest = text.split(maxsplit=1) or [""]
    return word, rest[0].strip() if rest else ""


def _find(table: Iterable[Command], name: str) -> Command | None:
    return next((command for command in table if name in command.names), None)


def _answer(text: str) -> Answer:
    # A file's name may hold what a terminal would obey.
    shown = "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    return Answer(shown.replace("\n", "\r\n"))

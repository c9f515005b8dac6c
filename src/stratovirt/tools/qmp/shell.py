"""One line carried out: parsed, executed, shown.

The law: a line gives text or one exception, and never ends the shell by itself. ``help`` is the only word
that the shell keeps for itself; all others are the server's.
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Sequence

from stratovirt.client import Event
from stratovirt.client.blocking import QmpClient
from stratovirt.tools.qmp import syntax, tables
from stratovirt.tools.qmp.vocabulary import Vocabulary

_HELP = "Type a command with key=value or JSON arguments; `help COMMAND` tells them, ^D leaves.\n\n"


class Shell:
    """A connection and how to show what it answers.

    :ivar vocabulary: what the server understands; asked for when it is first needed.
    """

    def __init__(self, client: QmpClient, *, raw: bool = False, timeout: float | None = None) -> None:
        self._client = client
        self._raw = raw
        self._timeout = timeout

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self._client)

    def run_line(self, line: str) -> str:
        """Execute what was typed; as :meth:`run`."""
        return self.run(syntax.split(line))

    def run(self, words: Sequence[str]) -> str:
        """Execute a command and its arguments; returns what to print.

        :raises syntax.Mistyped: it is no command.
        :raises QmpError: the server refused, did not answer in time, or is gone.
        """
        if not words:
            return ""
        if words[0] == "help":
            return self._help(words[1:])
        command, arguments = syntax.parse(words, self._is_name)
        result = self._client.execute(command, arguments, timeout=self._timeout)
        return json.dumps(result) if self._raw else tables.show(result, _width())

    def event_line(self, event: Event) -> str:
        """An event, for people, or as JSON."""
        if self._raw:
            return json.dumps({"event": event.name, "data": event.data, "timestamp": event.timestamp})
        data = " ".join(f"{name}={value}" for name, value in tables.flatten(event.data).items())
        return f"{time.strftime('%H:%M:%S', time.localtime(event.timestamp))} {event.name} {data}".rstrip()

    def _is_name(self, command: str, key: str) -> bool:
        return any(member.name == key for member in self.vocabulary.arguments(command))

    def _help(self, commands: Sequence[str]) -> str:
        if not commands:
            return _HELP + tables.columns(self.vocabulary.commands, _width())
        return "\n\n".join(map(self._help_on, commands))

    def _help_on(self, command: str) -> str:
        if command not in self.vocabulary.commands:
            raise syntax.Mistyped(f"the server has no command {command!r}")
        return "\n  ".join([command, *self.vocabulary.usage(command)])


def _width() -> int:
    return shutil.get_terminal_size().columns

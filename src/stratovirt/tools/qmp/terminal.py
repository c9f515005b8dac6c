"""The interactive shell: a prompt with history and completion, and events above it as they come.

The law: whatever arrives is read by the main thread – by the event loop while a line is typed, by the
client while a command runs. Only this module imports prompt_toolkit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

from stratovirt.client import Event, QmpDisconnected, QmpError
from stratovirt.client.blocking import QmpClient
from stratovirt.tools.qmp import syntax
from stratovirt.tools.qmp.shell import Shell
from stratovirt.tools.qmp.vocabulary import Member, Vocabulary

PROMPT = "(qmp) "


class WordCompleter(Completer):
    """Commands, then argument names, then values where the choice is small."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the word before the cursor may become."""
        *before, word = document.text_before_cursor.split(" ")
        for candidate in self._candidates([text for text in before if text], word):
            if candidate.startswith(word):
                yield Completion(candidate, start_position=-len(word), display=_display(candidate, word))

    def _candidates(self, before: list[str], word: str) -> list[str]:
        if not before or before == ["help"]:
            return self._vocabulary.commands if before else ["help", *self._vocabulary.commands]
        command, *assignments = before
        key, equals, _ = word.partition("=")
        if equals:
            member = self._vocabulary.member(command, key)
            return [f"{key}={value}" for value in self._vocabulary.values(member.type)] if member else []
        given = {assignment.partition("=")[0] for assignment in assignments}
        return [name for name in self._names(command, key) if name.rstrip("=.") not in given]

    def _names(self, command: str, key: str) -> list[str]:
        parent, dot, _ = key.rpartition(".")
        if not dot:
            return [self._open(member) for member in self._vocabulary.arguments(command)]
        outer = self._vocabulary.member(command, parent)
        inner = self._vocabulary.members(outer.type) if outer else []
        return [f"{parent}.{self._open(member)}" for member in inner]

    def _open(self, member: Member) -> str:
        """A name and what follows it: a member's name, or a value."""
        return member.name + ("." if self._vocabulary.is_object(member.type) else "=")


def interact(client: QmpClient, shell: Shell) -> int:
    """Prompt until ^D or until the server is gone; returns the exit status."""
    session: PromptSession[str] = PromptSession(
        PROMPT,
        history=FileHistory(str(history_file(os.environ))),
        completer=WordCompleter(shell.vocabulary),
        complete_while_typing=False,
    )
    with patch_stdout(), client.listening(lambda event: _show(shell, event)):
        while True:
            try:
                line = session.prompt(pre_run=lambda: _watch(client, session))
                text = shell.run_line(line)
            except KeyboardInterrupt:
                continue  # as in a shell: ^C drops the line, or stops waiting for its reply
            except EOFError:
                return 0
            except QmpDisconnected as error:
                print(f"stratovirt-qmp: {error}")
                return 0
            except (QmpError, syntax.Mistyped) as error:
                text = f"error: {error}"
            if text:
                print(text)


def history_file(environment: Mapping[str, str]) -> Path:
    """Where lines are remembered, by the XDG base directory rules; its directory is made."""
    base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/"), ".local", "state")
    directory = Path(base) / "stratovirt"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / "qmp-history"


def _watch(client: QmpClient, session: PromptSession[str]) -> None:
    """Read what arrives while a line is typed; the loop, and this with it, ends with the line."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            client.poll()
        except QmpDisconnected as error:
            loop.remove_reader(client)
            session.app.exit(exception=error)

    loop.add_reader(client, readable)


def _show(shell: Shell, event: Event) -> None:
    print(shell.event_line(event))


def _display(candidate: str, word: str) -> str:
    """A candidate without the part that all of them share."""
    begin = max(word.rfind("."), word.rfind("=")) + 1
    return candidate[begin:]

"""The commands and events there are: each schema with its handler.

The law: no handler without a schema, no schema without a handler, and a handler only ever sees
arguments that its schema allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Handler
from stratovirt.qmp.protocol.messages import nearest, quote
from stratovirt.qmp.schemas import Schema, Schemas

if TYPE_CHECKING:
    from stratovirt.qmp.validation import Validators


class RegistryError(Exception):
    """Schemas and handlers do not match: a mistake in this package, found when it starts."""


@dataclass(frozen=True)
class Command:
    """A command: its contract and its code."""

    handler: Handler
    schemas: Schemas

    @property
    def schema(self) -> Schema:
        """The contract."""
        return self.schemas.commands[self.handler.name]


class Registry:
    """Every command and event that this server knows.

    :raises RegistryError: a handler or a schema has no counterpart.
    """

    def __init__(self, schemas: Schemas, handlers: Iterable[Handler]) -> None:
        by_name = {handler.name: handler for handler in handlers}
        _refuse("handler without schema", by_name.keys() - schemas.commands.keys())
        _refuse("schema without handler", schemas.commands.keys() - by_name.keys())
        self.schemas = schemas
        self.commands = {name: Command(by_name[name], schemas) for name in schemas.commands}
        self._validators: Validators | None = None

    def find(self, name: str) -> Command:
        """The command called ``name``.

        :raises CommandError: there is none (CommandNotFound).
        """
        if name not in self.commands:
            hint = nearest(name, list(self.commands))
            raise CommandError(f"The command {quote(name)} has not been found{hint}", "CommandNotFound")
        return self.commands[name]

    def typed(self, command: Command, given: dict[str, Any]) -> Any:
        """The arguments as an instance of the command's type in :mod:`stratovirt.qmp.arguments`.

        :raises CommandError: the schema forbids them; the text names the argument and says why.
        """
        from stratovirt.qmp import arguments

        name = command.handler.name
        # None given and none required: nothing to check, and most sessions never load jsonschema.
        if given or command.schema["arguments"].get("required"):
            self._validate(name, command.schema, given)
        return arguments.BY_COMMAND[name].from_wire(given)

    def load_validators(self) -> None:
        """Load jsonschema now rather than with the first command that has arguments (0.2 s). Any thread."""
        if self._validators is None:
            from stratovirt.qmp.validation import Validators

            self._validators = Validators(self.schemas)

    def _validate(self, name: str, schema: Schema, given: dict[str, Any]) -> None:
        self.load_validators()
        assert self._validators is not None
        from stratovirt.qmp.validation import problem

        found = problem(self._validators.of(schema, "/arguments").iter_errors(given))
        if found is not None:
            raise CommandError(f"{name}: {found}")


def _refuse(what: str, names: Iterable[str]) -> None:
    if names := sorted(names):
        raise RegistryError(f"{what}: {', '.join(names)}")

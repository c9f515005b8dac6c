"""Arguments against their schema, and the sentence that says what is wrong with them.

This is the only module that imports jsonschema, which takes a fifth of a second: import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012, SchemaRegistry

from stratovirt.qmp.protocol.messages import encode, kind, nearest, quote
from stratovirt.qmp.schemas import Schema, Schemas

# jsonschema's types leave open that an error has not been filled in; those that reach us have been.
_Error = Any

_SHOWN = 60  # characters of a value that an error quotes
_TYPES = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def _is_integer(checker: object, value: object) -> bool:
    """JSON Schema takes 1.0 for an integer; QMP does not."""
    return isinstance(value, int) and not isinstance(value, bool)


StrictValidator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


class Validators:
    """Validators for parts of the schema files, which refer to each other by ``$id``."""

    def __init__(self, schemas: Schemas) -> None:
        self._made: dict[str, Validator] = {}
        empty: SchemaRegistry = Registry()
        self._files = empty.with_resources(
            (schema["$id"], DRAFT202012.create_resource(schema)) for schema in schemas.all()
        )

    def of(self, schema: Schema, pointer: str = "") -> Validator:
        """A validator for the schema at ``pointer`` (``/arguments``) in a schema file."""
        place = f"{schema['$id']}#{pointer}"
        if place not in self._made:
            self._made[place] = StrictValidator({"$ref": place}, registry=self._files)
        return self._made[place]


def problem(errors: Iterable[ValidationError]) -> str | None:
    """The one of several errors that is best told, as a sentence; None if there is none."""
    worst = min(errors, key=_urgency, default=None)
    return None if worst is None else _TEXTS.get(str(worst.validator), _other)(worst)


def _urgency(error: _Error) -> tuple[int, list[str]]:
    """A wrong name explains a missing one, and a wrong type a value that is out of range."""
    kinds = list(_TEXTS)
    place = kinds.index(str(error.validator)) if error.validator in kinds else len(kinds)
    return place, [str(step) for step in error.absolute_path]


def _unknown(error: _Error) -> str:
    known = error.schema.get("properties", ())
    name = next(name for name in error.instance if name not in known)
    among = nearest(_path(error, name), [_path(error, other) for other in known])
    return f"unknown argument {quote(_path(error, name))}{among if known else ' (there are none)'}"


def _missing(error: _Error) -> str:
    name = next(name for name in error.validator_value if name not in error.instance)
    return f"argument {quote(_path(error, name))} is missing"


def _type(error: _Error) -> str:
    wanted = error.validator_value
    names = [wanted] if isinstance(wanted, str) else wanted
    allowed = " or ".join(_TYPES[name] for name in names)
    return f"{_subject(error)} ({kind(error.instance)}), not {allowed}"


def _enum(error: _Error) -> str:
    allowed = ", ".join(_shown(value) for value in error.validator_value)
    return f"{_subject(error)}; allowed: {allowed}"


def _minimum(error: _Error) -> str:
    return f"{_subject(error)}, less than the minimum of {error.validator_value}"


def _maximum(error: _Error) -> str:
    return f"{_subject(error)}, more than the maximum of {error.validator_value}"


def _min_length(error: _Error) -> str:
    return f"{_subject(error)}, shorter than the minimum of {error.validator_value}"


def _other(error: _Error) -> str:
    return f"{_subject(error)}, which its schema's '{error.validator}' forbids"


def _subject(error: _Error) -> str:
    where = quote(_path(error)) if error.absolute_path else "arguments"
    return f"argument {where} is {_shown(error.instance)}"


def _path(error: _Error, *more: str) -> str:
    """``file.locking[2]``: where in the arguments."""
    steps = [*error.absolute_path, *more]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return path.removeprefix(".")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    text = encode(value).decode("ascii")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


# In order of urgency.
_TEXTS: dict[str, Callable[[_Error], str]] = {
    "additionalProperties": _unknown,
    "required": _missing,
    "type": _type,
    "enum": _enum,
    "minimum": _minimum,
    "maximum": _maximum,
    "minLength": _min_length,
}

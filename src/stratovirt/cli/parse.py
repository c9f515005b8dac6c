"""argv to Config.

The law: pure. Nothing is opened, looked up or printed; whatever the words are, the result is a
consistent Config, an EarlyExit, or an OptionError of one line.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stratovirt.cli.chardevs import SerialPort
from stratovirt.cli.check import check
from stratovirt.cli.config import Config, Device, Machine
from stratovirt.cli.options import OPTIONS, EarlyExit, Option, Takes
from stratovirt.cli.values import BadValue
from stratovirt.cli.wording import nearest, shown
from stratovirt.errors import OptionError


class Use(NamedTuple):
    """One use of an option: its name as typed but with one dash, and the words up to the next option."""

    name: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shown(" ".join((f"-{self.name}", *(word or "''" for word in self.words))))


def parse(argv: Sequence[str]) -> Config | EarlyExit:
    """What the command line asks for.

    :param argv: the arguments, without the name of the program.
    :raises OptionError: they cannot be used; the text names the option, its value and the reason.
    """
    fields: dict[str, Any] = {}
    for use in _uses(argv):
        option = _find(use)
        value = _read(option, use)
        if option.early is not None:
            return option.early
        if option.repeatable:
            value = (*fields.get(option.field, ()), value)
        elif option.field in fields:
            raise OptionError(str(use), f"-{option.names[0]} may be given only once")
        fields[option.field] = value
    config = _assemble(fields)
    check(config)
    return config


def _uses(argv: Sequence[str]) -> Iterator[Use]:
    name: str | None = None
    words: list[str] = []
    for word in argv:
        _check_text(word)
        if not _is_option(word):
            if name is None:
                raise OptionError(shown(word or "''"), "not an option; options start with '-'")
            words.append(word)
            continue
        if name is not None:
            yield Use(name, tuple(words))
        name, words = word[2:] if word.startswith("--") else word[1:], []
    if name is not None:
        yield Use(name, tuple(words))


def _is_option(word: str) -> bool:
    """``-`` and ``--`` alone are values: the second is common on kernel command lines."""
    return word.startswith("-") and word not in ("-", "--")


def _check_text(word: str) -> None:
    """The kernel hands over no other words; a Python caller can."""
    try:
        encoded = os.fsencode(word)
    except UnicodeEncodeError:
        raise OptionError(shown(word), "cannot be encoded") from None
    if b"\0" in encoded:
        raise OptionError(shown(word), "holds a NUL")


def _find(use: Use) -> Option:
    if use.name in OPTIONS:
        return OPTIONS[use.name]
    meant = nearest(use.name, OPTIONS)
    raise OptionError(
        shown(f"-{use.name}"),
        f"unknown option; did you mean -{meant}?" if meant else "unknown option; -h lists them",
    )


def _read(option: Option, use: Use) -> object:
    """The value of one use.

    :raises OptionError: it is not what the option takes.
    """
    _count(option, use)
    if option.takes is Takes.NOTHING:
        return True
    if option.value is None:
        return str(use)
    if not use.words:
        return None
    try:
        return option.value.read(" ".join(use.words))
    except BadValue as error:
        raise OptionError(str(use), str(error)) from None


def _count(option: Option, use: Use) -> None:
    """Refuse too few or too many words."""
    least, most = option.takes.value
    if len(use.words) < least:
        form = option.value.form.splitlines()[0] if option.value else ""
        raise OptionError(str(use), f"needs a value: {form}")
    if most is not None and len(use.words) > most:
        surplus = shown(use.words[most])
        raise OptionError(str(use), f"takes {'one' if most else 'no'} value; '{surplus}' is too much")


def _assemble(fields: dict[str, Any]) -> Config:
    """Bring together what several options say about one thing."""
    machine = _machine(fields.pop("machine", {}), fields.pop("accel", None))
    serial: SerialPort = fields.pop("serial", SerialPort())
    if serial.backend is not None:
        fields["chardevs"] = (*fields.get("chardevs", ()), serial.backend)
    devices = _with_ids(fields.pop("devices", ()))
    return Config(machine=machine, serial=serial.port, devices=devices, **fields)


def _machine(given: dict[str, Any], accel: str | None) -> Machine:
    """
    :param given: sub-options of -machine.
    :param accel: the value of -accel.
    """
    if accel is None:
        return Machine(**given)
    if given.get("accel", accel) != accel:
        raise OptionError(f"-accel {accel}", f"-machine says accel={given['accel']}")
    return Machine(**given | {"accel": accel})


def _with_ids(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """An id of its own for each device that came without; '#' is in no id that can be typed."""
    return tuple(
        device if device.id else device._replace(id=f"#device{number}")
        for number, device in enumerate(devices)
    )

"""``key=value,key=value`` lists: how one is declared, and the reader of such lists.

The law: the syntax is QEMU's. Commas separate items, ``,,`` is a comma inside a value, a switch may
stand without ``=on``, and where a schema says so the first item may be the value of its first key
without the key's name.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from stratovirt.cli.values import BadValue, Value, is_word
from stratovirt.cli.wording import shown, suggestion


def split(text: str) -> list[str]:
    """The items of a list, ``,,`` turned into a comma. The detour over NUL is safe: no argument holds one."""
    return [item.replace("\0", ",") for item in text.replace(",,", "\0").split(",")]


class Key(NamedTuple):
    """One sub-option. ``argument``: how the builder calls it, where that is not the name in snake case.

    ``repeatable``: may be given several times, and the builder gets a tuple.
    """

    name: str
    value: Value
    required: bool = False
    argument: str | None = None
    repeatable: bool = False

    @property
    def form(self) -> str:
        """``id=ID`` or ``server[=on|off]``."""
        return f"{self.name}[={self.value.form}]" if self.value.switch else f"{self.name}={self.value.form}"

    @property
    def keyword(self) -> str:
        """The builder's name for it."""
        return self.argument or self.name.replace("-", "_")

    def read(self, text: str | None) -> object:
        """The value; ``text`` is None when the key stands alone.

        :raises BadValue: it is none of this kind.
        """
        if text is None and not self.value.switch:
            raise BadValue(f"{self.name} needs a value: {self.form}")
        try:
            return self.value.read("on" if text is None else text)
        except BadValue as error:
            raise BadValue(f"{self.name} {error}") from None


class Keys(NamedTuple):
    """A list: ``build`` gets the values that were given, by keyword, and may raise BadValue.

    ``implied``: the first item may be the first key's value alone.
    """

    build: Callable[..., object]
    keys: tuple[Key, ...]
    implied: bool = False

    @property
    def form(self) -> str:
        """As help shows it: ``[cpus=]N[,maxcpus=N]``."""
        if not self.implied:
            return self.tail.removeprefix(",")
        first = self.keys[0]
        return f"[{first.name}=]{first.value.form}{self._replace(keys=self.keys[1:]).tail}"

    @property
    def tail(self) -> str:
        """As help shows it behind something else: ``,id=ID[,size=N]``."""
        return "".join(f",{key.form}" if key.required else f"[,{key.form}]" for key in self.keys)

    def read(self, text: str) -> Any:
        """What ``build`` makes of the list ``text``.

        :raises BadValue: the list is not as declared.
        """
        return self.read_items(split(text))

    def read_items(self, items: Iterable[str]) -> Any:
        """As :meth:`read`, for items that are split already."""
        values: dict[str, Any] = {}
        for index, item in enumerate(items):
            key, text = self._assign(item, first=index == 0)
            if key.repeatable:
                values[key.keyword] = (*values.get(key.keyword, ()), key.read(text))
                continue
            if key.keyword in values:
                raise BadValue(f"{key.name} is given twice")
            values[key.keyword] = key.read(text)
        for key in self.keys:
            if key.required and key.keyword not in values:
                raise BadValue(f"{key.form} is missing")
        return self.build(**values)

    def _assign(self, item: str, first: bool) -> tuple[Key, str | None]:
        """Which key an item is for, and the text of its value."""
        name, equals, text = item.partition("=")
        is_value = not equals or not is_word(name)  # unix:/a=b is a value, acel=kvm a mistake
        if first and self.implied and is_value:
            return self.keys[0], item
        if not item:
            raise BadValue("a sub-option is empty")
        for key in self.keys:
            if key.name == name:
                return key, text if equals else None
        known = [key.name for key in self.keys]
        raise BadValue(f"no sub-option '{shown(name)}'; {suggestion(name, known)}")


class Kinds(NamedTuple):
    """A list whose first item says what the others may be: ``socket,id=…`` or ``backend=socket,id=…``."""

    key: str
    kinds: Mapping[str, Keys]

    @property
    def form(self) -> str:
        """As help shows it, one line per kind."""
        return "\n".join(kind + keys.tail for kind, keys in self.kinds.items())

    def read(self, text: str) -> Any:
        """What the kind's ``build`` makes of the list ``text``.

        :raises BadValue: the list is not as declared.
        """
        return self.read_items(split(text))

    def read_items(self, items: list[str]) -> Any:
        """As :meth:`read`, for items that are split already."""
        kind = items[0].removeprefix(f"{self.key}=")
        if kind not in self.kinds:
            raise BadValue(f"no {self.key} '{shown(kind)}'; {suggestion(kind, self.kinds)}")
        return self.kinds[kind].read_items(items[1:])


def single(name: str, value: Value) -> Keys:
    """A list of one sub-option, whose name may be left out; it gives the value itself."""
    return Keys(lambda **given: given[name], (Key(name, value, required=True),), implied=True)

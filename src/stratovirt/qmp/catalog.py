"""What this program can do at all, whatever machine it runs: the answer to clients that probe it.

The law: plain values, filled in by who knows the command line; qmp only passes them on.
"""

from typing import Literal, NamedTuple

ValueType = Literal["string", "boolean", "number", "size"]


class Parameter(NamedTuple):
    """Something that an option or a device can be told; ``form`` is how help shows its value."""

    name: str
    type: ValueType
    form: str


class OptionInfo(NamedTuple):
    """An option of the command line, without its dash."""

    name: str
    parameters: tuple[Parameter, ...] = ()


class TypeInfo(NamedTuple):
    """A type of thing that can be made, or (``abstract``) a kind of such types."""

    name: str
    parent: str | None = None
    abstract: bool = False
    properties: tuple[Parameter, ...] = ()


class MachineType(NamedTuple):
    """A ``-machine``, and how many vCPUs it can have."""

    name: str
    cpu_max: int
    is_default: bool = False


class Catalog(NamedTuple):
    """All of it. ``kvm_present``: this process may open the host's /dev/kvm."""

    machines: tuple[MachineType, ...] = ()
    options: tuple[OptionInfo, ...] = ()
    types: tuple[TypeInfo, ...] = ()
    kvm_present: bool = False


NOTHING = Catalog()
"""Of a server that nobody has told."""

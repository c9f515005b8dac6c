"""What a command handler is: a small async function with typed arguments and a context.

The law for handlers that change the machine: no checkpoint between publishing an event and returning,
so that the event and the reply leave in one send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratovirt.machine.control import MachineControl
    from stratovirt.qmp.catalog import Catalog
    from stratovirt.qmp.descriptors import Named, Received
    from stratovirt.qmp.registry import Registry


@dataclass(frozen=True)
class Reply:
    """What a command answers.

    :ivar value: the reply's ``return``.
    :ivar then: called once the reply is on its way, before anything else happens.
    """

    value: Any = field(default_factory=dict)
    then: Callable[[], None] | None = None


@dataclass(frozen=True)
class Context:
    """What a handler may use.

    :ivar version: this server's version, ``major.minor.micro``.
    :ivar catalog: what this program can do at all.
    :ivar named: descriptors that commands may take.
    :ivar received: descriptors that this client has sent; None if its connection cannot carry any.
    :ivar human_monitor: carries out a line of the human monitor; its text is the reply's value. None:
        nobody has brought one.
    """

    control: MachineControl
    registry: Registry
    version: str
    catalog: Catalog
    named: Named
    received: Received | None = None
    human_monitor: Callable[[str], Awaitable[Reply]] | None = None


Run = Callable[[Context, Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Handler:
    """A command's code."""

    name: str
    run: Run


def command(name: str) -> Callable[[Run], Handler]:
    """Make the function below the handler of the command ``name``."""
    return lambda run: Handler(name, run)

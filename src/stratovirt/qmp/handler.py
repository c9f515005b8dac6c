"""What a command handler is: a small async function with typed arguments and the machine's control.

The law for handlers that change the machine: no checkpoint between publishing an event and returning,
so that the event and the reply leave in one send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratovirt.machine.control import MachineControl

if TYPE_CHECKING:
    from stratovirt.qmp.registry import Registry


@dataclass(frozen=True)
class Context:
    """What a handler may use.

    :ivar version: this server's version, ``major.minor.micro``.
    :ivar human_monitor: carries out a line of the human monitor; its text is the reply's value. None:
        nobody has brought one.
    """

    control: MachineControl
    registry: Registry
    version: str
    human_monitor: Callable[[str], Awaitable[Reply]] | None = None


@dataclass(frozen=True)
class Reply:
    """What a command answers.

    :ivar value: the reply's ``return``.
    :ivar then: called once the reply is on its way, before anything else happens.
    """

    value: Any = field(default_factory=dict)
    then: Callable[[], None] | None = None


Run = Callable[[Context, Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Handler:
    """A command's code.

    :ivar changes_machine: commands that do take turns; the others run at once.
    """

    name: str
    run: Run
    changes_machine: bool


def command(name: str, *, changes_machine: bool = False) -> Callable[[Run], Handler]:
    """Make the function below the handler of the command ``name``."""
    return lambda run: Handler(name, run, changes_machine)

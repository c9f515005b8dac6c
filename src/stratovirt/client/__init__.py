"""QMP clients for Python programs: one for trio, and ``blocking`` for programs without it.

Lives here: ``conversation`` (the sans-io core both clients share: numbered requests out; replies and
events in), ``session`` and ``subscription`` (the trio client) with ``connect`` (the ways to it), ``plain``
(the same over a plain socket) with ``blocking`` (the ways to that). No threads, no task outside a nursery
of the user's own, nothing of the machine: of this package only ``errors`` and the envelopes of
``qmp.protocol`` are imported. They speak to QEMU as well. What needs trio is loaded at its first use: a
program that only blocks never loads it.

::

    async with connect_unix("/run/vm.qmp") as client:
        await client.execute("stop")
        await client.execute_and_wait("cont", event="RESUME", timeout=5)

What can be raised is drawn in :mod:`stratovirt.errors`, below ``QmpError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.client.conversation import Event, Greeting
from stratovirt.errors import QmpCommandError, QmpConnectError, QmpDisconnected, QmpError, QmpTimeout

if TYPE_CHECKING:
    from stratovirt.client.connect import connect_tcp, connect_unix
    from stratovirt.client.session import QmpClient
    from stratovirt.client.subscription import Subscription

__all__ = [
    "Event",
    "Greeting",
    "QmpClient",
    "QmpCommandError",
    "QmpConnectError",
    "QmpDisconnected",
    "QmpError",
    "QmpTimeout",
    "Subscription",
    "connect_tcp",
    "connect_unix",
]

_HOMES = {
    "QmpClient": "session",
    "Subscription": "subscription",
    "connect_tcp": "connect",
    "connect_unix": "connect",
}


def __getattr__(name: str) -> Any:
    """Names that need trio: PEP 562."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

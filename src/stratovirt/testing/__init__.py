"""For people who test: boot a guest in a pytest test, or hold a QMP server to its contract.

Lives here: ``plugin`` (what pytest loads: fixtures and failure reports), ``options`` and ``vm`` (which guest,
and the guest), ``console`` and ``shell`` (its serial line, and commands and files over it), ``process`` (the
program under test), ``recorded`` (a QMP client with a transcript) and ``conformance`` (the checks of
``check_qmp_server``). These see StratoVirt as any user does: its command line, its sockets, ``client`` and
``tools``; nothing in the VMM imports them. The names below are loaded at their first use, because pytest
loads the plugin in runs that boot nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratovirt.testing.conformance import (
        QEMU,
        STRATOVIRT,
        Dialect,
        NotConforming,
        Throttle,
        check_qmp_server,
    )
    from stratovirt.testing.console import GuestConsole
    from stratovirt.testing.options import VmOptions
    from stratovirt.testing.process import VmProcess, open_socket, started
    from stratovirt.testing.recorded import RecordedQmp
    from stratovirt.testing.shell import GuestError, Result
    from stratovirt.testing.vm import Vm, launched

__all__ = [
    "QEMU",
    "STRATOVIRT",
    "Dialect",
    "GuestConsole",
    "GuestError",
    "NotConforming",
    "RecordedQmp",
    "Result",
    "Throttle",
    "Vm",
    "VmOptions",
    "VmProcess",
    "check_qmp_server",
    "launched",
    "open_socket",
    "started",
]

_HOMES = {
    "QEMU": "conformance",
    "STRATOVIRT": "conformance",
    "Dialect": "conformance",
    "GuestConsole": "console",
    "GuestError": "shell",
    "NotConforming": "conformance",
    "RecordedQmp": "recorded",
    "Result": "shell",
    "Throttle": "conformance",
    "Vm": "vm",
    "VmOptions": "options",
    "VmProcess": "process",
    "check_qmp_server": "conformance",
    "launched": "vm",
    "open_socket": "process",
    "started": "process",
}


def __getattr__(name: str) -> Any:
    """The names of ``__all__``: PEP 562."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

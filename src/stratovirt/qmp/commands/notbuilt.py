"""Commands that have their contract and no code yet.

The law: this table is the only place that says so. Whoever builds a command deletes its entry.
"""

from __future__ import annotations

from typing import Any

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Handler, Reply

NOT_BUILT = ("migrate",)


def _refusing(name: str) -> Handler:
    async def run(context: Context, arguments: Any) -> Reply:
        raise CommandError(f"{name}: not built yet")

    return Handler(name, run)


HANDLERS = tuple(_refusing(name) for name in NOT_BUILT)

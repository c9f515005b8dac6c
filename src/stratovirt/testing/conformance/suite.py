"""Which checks there are, and what becomes of those that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from stratovirt.testing.conformance import (
    descriptors,
    ending,
    framing,
    greeting,
    requests,
    sessions,
    throttling,
)
from stratovirt.testing.conformance.dialect import STRATOVIRT, Dialect
from stratovirt.testing.conformance.wire import Connect, Server, Violation

Check = Callable[[Server], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    *(*greeting.CHECKS, *requests.CHECKS, *framing.CHECKS, *sessions.CHECKS),
    *(*descriptors.CHECKS, *throttling.CHECKS),
)
LAST: Check = ending.quit_is_answered_then_everybody_is_told_and_the_connections_end
CHECK_SECONDS = 30
"""For one check; the longest takes 0.5 s, which flow control makes it wait."""

# What a server that does not conform makes a check raise: it says something else, nothing, or hangs up.
FAILURES = (Violation, LookupError, TypeError, trio.TooSlowError, trio.BrokenResourceError, OSError)


class NotConforming(AssertionError):
    """Some checks have failed.

    :ivar failures: the name of each, and what the server did.
    """

    def __init__(self, failures: dict[str, str], total: int) -> None:
        self.failures = failures
        lines = [f"{name}: {reason}" for name, reason in failures.items()]
        super().__init__("\n  ".join([f"{len(failures)} of {total} QMP checks failed:", *lines]))


async def check_qmp_server(
    connect: Connect, *, dialect: Dialect = STRATOVIRT, ends: bool = False
) -> list[str]:
    """Hold a QMP server to the protocol.

    The machine behind it has to be running; it is stopped and continued, and nothing else happens to it.
    Nobody else may steer it meanwhile.

    :param connect: opens a fresh connection each time it is called; the suite closes it.
    :param dialect: where the server differs on purpose: ``STRATOVIRT``, ``QEMU``, or one of your own.
    :param ends: the last check is of ``quit``, and the machine is gone afterwards.
    :return: the names of the checks, all of which have passed.
    :raises NotConforming: names every check that failed, and why.
    """
    server = Server(connect, dialect)
    failures = {}
    for check in CHECKS:
        reason = await _failure(check, server)
        if reason is not None:
            failures[_name(check)] = reason
            await server.resume()
    if ends and (reason := await _failure(LAST, server)) is not None:
        failures[_name(LAST)] = reason
    names = [_name(check) for check in (*CHECKS, *([LAST] if ends else []))]
    if failures:
        raise NotConforming(failures, len(names))
    return names


async def _failure(check: Check, server: Server) -> str | None:
    """Why the check fails; None if it passes."""
    try:
        with trio.fail_after(CHECK_SECONDS):
            await check(server)
    except FAILURES as error:
        return str(error) or f"{type(error).__name__}: the server says nothing"
    return None


def _name(check: Check) -> str:
    return getattr(check, "__name__", repr(check)).replace("_", " ")

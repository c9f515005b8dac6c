"""Where QMP servers differ on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Throttle(NamedTuple):
    """How many commands a client may send: a token bucket.

    :ivar rate: per second, sustained.
    :ivar capacity: at once.
    :ivar rejects: commands beyond are refused; otherwise they wait.
    """

    rate: int
    capacity: int
    rejects: bool = False


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a server does where the protocol leaves a choice.

    :ivar negotiation_required: nothing but ``qmp_capabilities`` is executed before it, and only once.
    :ivar many_clients: several clients can be connected at the same time.
    :ivar compact: no white space between JSON tokens, and ``return`` or ``error`` before ``id``.
    :ivar data_always: an event has ``data`` even where there is none to tell.
    :ivar repeated_stop_refused: ``stop`` while paused is an error.
    :ivar exact_integers: an integer beyond 64 bits is refused, not rounded.
    :ivar max_message: bytes of one message; beyond it one error and the connection's end. None: not tested.
    :ivar throttle: the flow control of each client. None: there is none.
    """

    negotiation_required: bool
    many_clients: bool
    compact: bool
    data_always: bool
    repeated_stop_refused: bool
    exact_integers: bool
    max_message: int | None
    throttle: Throttle | None


STRATOVIRT = Dialect(
    negotiation_required=False,
    many_clients=True,
    compact=True,
    data_always=True,
    repeated_stop_refused=True,
    exact_integers=True,
    max_message=1 << 20,
    throttle=Throttle(rate=100, capacity=100),
)

QEMU = Dialect(
    negotiation_required=True,
    many_clients=False,
    compact=False,
    data_always=False,
    repeated_stop_refused=False,
    exact_integers=False,
    max_message=None,  # 64 MiB: too much to send in a test
    throttle=None,
)

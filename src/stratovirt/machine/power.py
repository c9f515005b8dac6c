"""How a guest's reset or power-off reaches whoever runs the machine."""

from __future__ import annotations

from collections.abc import Callable

from stratovirt.machine.events import Cause


class PowerLine:
    """The :class:`stratovirt.devices.power.PowerSwitch` of a board: passes each request to one listener."""

    def __init__(self) -> None:
        self._listener: Callable[[Cause], None] | None = None

    def connect(self, listener: Callable[[Cause], None]) -> None:
        """``listener`` is called on vCPU threads and must not block."""
        self._listener = listener

    def reset(self) -> None:
        """The guest has pulled its reset line."""
        self.tell(Cause.GUEST_RESET)

    def power_off(self) -> None:
        """The guest has entered S5."""
        self.tell(Cause.GUEST_SHUTDOWN)

    def tell(self, cause: Cause) -> None:
        """Pass on what the guest asked for."""
        if self._listener is not None:
            self._listener(cause)

"""What managers may know of the guest's network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from stratovirt.devices.virtio.net import VirtioNet
from stratovirt.machine.inventory import NetworkInfo, PluggedDevice


class Backend(Protocol):
    """A network backend that can say what it is."""

    def describe(self) -> str: ...


def networks(
    backends: Mapping[str, Backend], cards: Iterable[tuple[PluggedDevice, VirtioNet]]
) -> Iterator[NetworkInfo]:
    """Every backend, and the card on it.

    :param cards: those that are plugged in.
    """
    by_backend = {occupant.backend: (occupant.id, card.mac, card.link_up) for occupant, card in cards}
    for id, backend in backends.items():
        peer = f"type={backend.describe()}"
        yield NetworkInfo(id, peer, *by_backend.get(id, ()))

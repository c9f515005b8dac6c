"""The network card's control queue (virtio 1.2 §5.1.6.5): what the driver wishes of the card.

Frames are not filtered: the card gives the driver all that come, which it must be ready for (§5.1.6.5.1).
"""

from __future__ import annotations

import struct
from typing import Protocol

from stratovirt.devices.virtio.queue import Chain, Virtqueue

OK, ERROR = b"\0", b"\1"

# Class and command.
RX_MODES = {(0, command) for command in range(6)}  # promiscuous, all multicast, …
MAC_TABLE_SET = (1, 0)
MAC_ADDR_SET = (1, 1)
MQ_VQ_PAIRS_SET = (4, 0)
GUEST_OFFLOADS_SET = (5, 0)

MAX_COMMAND = 0x10000
"""Longer ones are cut: the largest is a table of MAC addresses, which is not looked at."""


class Card(Protocol):
    """What of a network card the control queue changes."""

    mac: bytes

    @property
    def largest_pairs(self) -> int: ...

    def use_pairs(self, pairs: int) -> None: ...

    def use_offloads(self, offloads: int) -> bool: ...


class Control:
    """Obeys the control queue of ``card``."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def serve(self, queue: Virtqueue) -> bool:
        """Carry out one command."""
        chain = queue.pop()
        if chain is None:
            return False
        queue.push(chain, chain.write(OK if self._obey(chain) else ERROR))
        return True

    def _obey(self, chain: Chain) -> bool:
        request = chain.read(MAX_COMMAND)
        command, data = tuple(request[:2]), request[2:]
        if command in RX_MODES or command == MAC_TABLE_SET:
            return True
        if command == MAC_ADDR_SET and len(data) == 6:
            self._card.mac = data
            return True
        if command == MQ_VQ_PAIRS_SET and len(data) == 2:
            return self._set_pairs(*struct.unpack("<H", data))
        if command == GUEST_OFFLOADS_SET and len(data) == 8:
            return self._card.use_offloads(*struct.unpack("<Q", data))
        return False

    def _set_pairs(self, pairs: int) -> bool:
        if not 1 <= pairs <= self._card.largest_pairs:
            return False
        self._card.use_pairs(pairs)
        return True

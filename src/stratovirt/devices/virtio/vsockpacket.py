"""The header of a vsock packet, and the accounting of credit that it carries (virtio 1.2 §5.10.6)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

HOST_CID = 2
"""The host's address, in every guest (§5.10.4)."""
STREAM = 1
"""The type of packets of stream sockets; the other one, SEQPACKET, is not offered."""

_U32 = 0xFFFF_FFFF


class Op(IntEnum):
    """What a packet is for (§5.10.6)."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Shut(IntFlag):
    """Flags of a SHUTDOWN: its sender does not receive, or does not send, any more."""

    NOTHING = 0
    RECEIVE = 1
    SEND = 2
    BOTH = 3


class Header(NamedTuple):
    """``struct virtio_vsock_hdr``; 64-bit CIDs, all else as wide as there.

    :ivar length: bytes of payload behind the header.
    :ivar buf_alloc: bytes that the sender keeps for what it has not consumed.
    :ivar fwd_cnt: bytes that it has consumed, modulo 2**32.
    """

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    length: int = 0
    type: int = STREAM
    op: int = 0
    flags: int = 0
    buf_alloc: int = 0
    fwd_cnt: int = 0

    def pack(self) -> bytes:
        """The 44 bytes that go in front of the payload."""
        return _HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """The header in 44 bytes, whatever they are."""
        return cls(*_HEADER.unpack(data))

    def reset(self) -> Header:
        """The RST that answers this packet."""
        return Header(self.dst_cid, self.src_cid, self.dst_port, self.src_port, type=self.type, op=Op.RST)


_HEADER = struct.Struct("<QQIIIHHIII")
HEADER_SIZE = _HEADER.size


class Credit:
    """How much each side of a stream may still send (§5.10.6.3); all counts are modulo 2**32.

    :param allocated: bytes that we keep for what the guest sends.
    """

    def __init__(self, allocated: int) -> None:
        self.allocated = allocated
        self._sent = 0  # to the guest
        self._guest_allocated = self._guest_consumed = 0
        self._consumed = 0  # of what the guest has sent
        self._told = 0  # of that, what the guest knows of

    def hear(self, header: Header) -> None:
        """Every packet of the guest's says how much it takes."""
        self._guest_allocated, self._guest_consumed = header.buf_alloc, header.fwd_cnt

    def room(self) -> int:
        """Bytes that the guest takes now."""
        return max(self._guest_allocated - (self._sent - self._guest_consumed & _U32), 0)

    def spend(self, length: int) -> None:
        """So much is on its way to the guest."""
        self._sent = self._sent + length & _U32

    def consume(self, length: int) -> None:
        """So much of what the guest has sent is with the host."""
        self._consumed = self._consumed + length & _U32

    def is_stale(self) -> bool:
        """Is the guest to be told that there is room? At half the buffer: it never waits for room that is
        there, and not every packet is answered."""
        return 2 * (self._consumed - self._told & _U32) >= self.allocated

    def stamp(self, header: Header) -> Header:
        """The header with our side of the account, which the guest knows of from now on."""
        self._told = self._consumed
        return header._replace(buf_alloc=self.allocated, fwd_cnt=self._consumed)

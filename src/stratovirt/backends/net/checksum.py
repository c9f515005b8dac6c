"""Checksums that a guest has left for the device to fill in (virtio 1.2 §5.1.6.2, NEEDS_CSUM).

A driver that may leave checksums out stores the sum of the pseudo header where the checksum belongs, and says
where the summed bytes begin.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("<BBHHHHH")
"""struct virtio_net_hdr_v1: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers."""
NEEDS_CSUM = 1


class Patch(NamedTuple):
    """What belongs at ``at`` of the frame."""

    at: int
    checksum: bytes


def missing(header: bytes, frame: memoryview) -> Patch | None:
    """The checksum that ``frame`` lacks; None: it is complete.

    :raises OSError: the header points outside the frame.
    """
    flags, _, _, _, start, offset, _ = HEADER.unpack(header)
    if not flags & NEEDS_CSUM:
        return None
    at = start + offset
    if at + 2 > len(frame):
        raise OSError("the checksum lies outside the frame")
    total = ones_complement_sum(frame[start:])
    return Patch(at, (~total & 0xFFFF or 0xFFFF).to_bytes(2, "big"))


def ones_complement_sum(data: memoryview) -> int:
    """RFC 1071's sum of 16-bit words: as 2**16 is 1 modulo 65535, the remainder of the whole as one number.

    Three times as fast as adding up words, of which Python has no faster way without C.
    """
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) % 2 else number) % 0xFFFF

"""How an image is to be used, whatever its format."""

from __future__ import annotations

from typing import Literal, NamedTuple


class DiskOptions(NamedTuple):
    """How an image is used.

    :ivar host_device: it has to be a block device.
    :ivar direct: around the host's page cache.
    :ivar no_flush: flushes do nothing.
    :ivar discard: discards give space back; otherwise they do nothing.
    :ivar iops: requests per second that its user may make; 0: any number.
    :ivar detect_zeroes: writes of zeroes alone become write_zeroes; ``unmap``: their space is given back.
    """

    host_device: bool = False
    read_only: bool = False
    direct: bool = False
    no_flush: bool = False
    discard: bool = False
    iops: int = 0
    detect_zeroes: Literal["off", "on", "unmap"] = "off"

"""What a disk has done, as QEMU counts it (qapi/block-core.json, BlockDeviceStats)."""

from __future__ import annotations


class Counter:
    """Of one kind of request; written on the disk's thread, read on any.

    :ivar operations: carried out.
    :ivar bytes: moved, discarded or made zero by them.
    :ivar failed: those that the host could not carry out.
    :ivar invalid: those that no disk could carry out: beyond its end, or writing where that is forbidden.
    :ivar nanoseconds: that the host took in all.
    """

    __slots__ = ("bytes", "failed", "invalid", "nanoseconds", "operations")

    def __init__(self) -> None:
        self.operations = self.bytes = self.failed = self.invalid = self.nanoseconds = 0


class BlockStats:
    """Since the disk was plugged in."""

    def __init__(self) -> None:
        self.reads, self.writes, self.flushes, self.discards = Counter(), Counter(), Counter(), Counter()

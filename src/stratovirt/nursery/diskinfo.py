"""What managers may know of the guest's disks, from the counters that the devices keep."""

from __future__ import annotations

from stratovirt.devices.virtio.blk import VirtioBlock
from stratovirt.devices.virtio.blkstats import Counter
from stratovirt.machine.inventory import BlockActivity, BlockCount, BlockNode, DiskInfo, PluggedDevice


def disk_info(occupant: PluggedDevice, node: BlockNode, device: VirtioBlock) -> DiskInfo:
    """What managers may know of a disk."""
    stats = device.stats
    counts = (stats.reads, stats.writes, stats.flushes, stats.discards)
    return DiskInfo(occupant, node, device.writeback, BlockActivity(*map(_count, counts)))


def _count(counter: Counter) -> BlockCount:
    return BlockCount(counter.operations, counter.bytes, counter.failed, counter.invalid, counter.nanoseconds)

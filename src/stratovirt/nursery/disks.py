"""Disks: from ``-drive`` and blockdev-add to open images, from ``-device`` to the devices that show them."""

from __future__ import annotations

import logging

from stratovirt.backends.disk.contract import SECTOR, Disk
from stratovirt.backends.disk.raw import RawOptions, open_raw
from stratovirt.cli import config
from stratovirt.devices.virtio.blk import QUEUE_SIZE, VirtioBlock
from stratovirt.errors import CommandError, ConfigError, OptionError
from stratovirt.machine.inventory import BlockNode, DeviceRequest

log = logging.getLogger(__name__)

BLOCK_SLOTS = 4
"""Replaceable ones; StratoVirt's MMIO_REPLACEABLE_BLK_NR."""
DRIVER = "virtio-blk-device"


def open_disk(node: BlockNode) -> Disk:
    """Open, check and lock the image of ``node``.

    :raises ConfigError: it cannot be used; the text starts with its path.
    """
    if node.driver != "raw":
        raise ConfigError(f"{node.filename}: format {node.driver} is not built yet")
    if node.iops_total:
        raise ConfigError(f"{node.filename}: throttling is not built yet")
    return open_raw(
        node.filename,
        RawOptions(
            host_device=node.host_device,
            read_only=node.read_only,
            direct=node.direct,
            no_flush=node.no_flush,
            discard=node.discard,
            detect_zeroes=node.detect_zeroes,
        ),
    )


def open_drive(drive: config.Drive) -> tuple[BlockNode, Disk]:
    """What ``-drive`` asks for.

    :raises OptionError: it cannot be had.
    """
    node = BlockNode(
        name=drive.id or "",
        filename=drive.file,
        driver=drive.format,
        read_only=drive.readonly,
        direct=bool(drive.direct),
        discard=drive.discard,
        detect_zeroes=drive.detect_zeroes,
        iops_total=drive.iops_total,
    )
    if drive.aio in ("native", "io_uring"):
        log.warning("-drive id=%s: aio=%s has no effect: the disk's thread does its I/O", drive.id, drive.aio)
    try:
        return node, open_disk(node)
    except ConfigError as error:
        raise OptionError.about("-drive", error) from error


def make_block(name: str, spec: config.Device, disk: Disk) -> VirtioBlock:
    """The device that ``spec`` describes, with ``disk`` plugged in.

    :param name: for logs.
    :raises OptionError: its properties contradict each other.
    """
    block_size = _size(spec, "logical_block_size", SECTOR)
    physical = _size(spec, "physical_block_size", block_size)
    if physical < block_size:
        raise OptionError(
            f"-device {spec.driver},physical_block_size={physical}",
            f"must not be smaller than logical_block_size, which is {block_size}",
        )
    return VirtioBlock(
        name,
        disk,
        str(spec.get("serial") or ""),
        queues=int(spec.get("num-queues") or 1),
        queue_size=_size(spec, "queue-size", QUEUE_SIZE),
        block_size=block_size,
        physical_block_size=physical,
    )


def insert(device: VirtioBlock, disk: Disk, request: DeviceRequest) -> None:
    """Plug ``disk`` into the empty slot ``device``.

    :raises CommandError: the slot cannot take it.
    """
    if device.read_only and not disk.read_only:
        raise CommandError(
            f'device_add: the block backend "{request.backend}" can be written to, and the guest knows '
            f"slot {request.slot} as read-only since it was started"
        )
    device.plug(disk, request.serial)


def _size(spec: config.Device, name: str, default: int) -> int:
    size = int(spec.get(name) or default)
    if size & (size - 1):
        raise OptionError(f"-device {spec.driver},{name}={size}", "must be a power of two")
    return size

"""Disks: from ``-drive`` and blockdev-add to open images, from ``-device`` to the devices that show them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import cast

from stratovirt.backends.disk.contract import SECTOR, Disk
from stratovirt.backends.disk.options import DiskOptions
from stratovirt.backends.disk.raw import open_raw
from stratovirt.backends.disk.storage_daemon import PROGRAM, ServedDisk, Starter
from stratovirt.cli import Config, config
from stratovirt.devices.virtio.blk import QUEUE_SIZE, VirtioBlock
from stratovirt.errors import CommandError, ConfigError, OptionError
from stratovirt.machine.inventory import BlockNode, DeviceRequest, PluggedDevice
from stratovirt.nursery.helpers import Helper, Helpers
from stratovirt.nursery.hotplug import Backend, Slot
from stratovirt.nursery.iothreads import IoThread
from stratovirt.nursery.slots import BLOCK_DRIVER, BLOCK_SLOTS, disks

log = logging.getLogger(__name__)


def open_disk(node: BlockNode, start: Starter, helpers: Helpers) -> Disk:
    """Open, check and lock the image of ``node``.

    :param start: as :class:`ServedDisk` wants it.
    :raises ConfigError: it cannot be used; the text starts with its path.
    """
    options = DiskOptions(
        host_device=node.host_device,
        read_only=node.read_only,
        direct=node.direct,
        no_flush=node.no_flush,
        discard=node.discard,
        iops=node.iops_total,
        detect_zeroes=node.detect_zeroes,
    )
    if node.driver == "raw":
        return open_raw(node.filename, options)
    disk = ServedDisk(node.filename, node.driver, options, start)
    helpers.adopt(Helper(f"{PROGRAM} of {node.name}", disk.take_output(), lambda: disk.closing))
    return disk


def open_drive(drive: config.Drive, helpers: Helpers) -> tuple[BlockNode, Disk]:
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
        return node, open_disk(node, lambda start: start(), helpers)
    except ConfigError as error:
        raise OptionError.about("-drive", error) from error


def slots(
    options: Config, backends: Mapping[str, Backend], iothreads: Mapping[str, IoThread]
) -> Iterator[tuple[VirtioBlock, Slot]]:
    """The replaceable slots, the board's first, filled with the command line's disks in its order.

    :raises OptionError: a device's properties contradict each other.
    """
    specs = disks(options)
    for number in range(BLOCK_SLOTS):
        name = f"disk slot {number}"
        if number >= len(specs):
            yield _slot(VirtioBlock(name), number)
            continue
        spec = specs[number]
        drive = str(spec.get("drive"))
        device = _make(name, spec, cast(Disk, backends[drive]))
        occupant = PluggedDevice(spec.id, "block", number, drive)
        yield _slot(device, number, occupant, iothreads.get(str(spec.get("iothread"))))


def _slot(
    device: VirtioBlock,
    number: int,
    occupant: PluggedDevice | None = None,
    iothread: IoThread | None = None,
) -> tuple[VirtioBlock, Slot]:
    def insert(backend: Backend, request: DeviceRequest) -> None:
        disk = cast(Disk, backend)
        if device.read_only and not disk.read_only:
            raise CommandError(
                f'device_add: the block backend "{request.backend}" can be written to, and the guest '
                f"knows slot {number} as read-only since it was started"
            )
        device.plug(disk, request.serial)

    return device, Slot("block", number, number, insert, device, occupant, iothread)


def _make(name: str, spec: config.Device, disk: Disk) -> VirtioBlock:
    block_size = _size(spec, "logical_block_size", SECTOR)
    physical = _size(spec, "physical_block_size", block_size)
    if physical < block_size:
        raise OptionError(
            f"-device {BLOCK_DRIVER},physical_block_size={physical}",
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


def _size(spec: config.Device, name: str, default: int) -> int:
    size = int(spec.get(name) or default)
    if size & (size - 1):
        raise OptionError(f"-device {BLOCK_DRIVER},{name}={size}", "must be a power of two")
    return size

"""Backends and devices that come and go: blockdev-*, netdev_*, device_*."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.machine.inventory import BlockNode, DeviceKind, DeviceRequest, Netdev
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import (
        BlockdevAdd,
        BlockdevDel,
        DeviceAdd,
        DeviceDel,
        NetdevAdd,
        NetdevDel,
    )

DRIVERS: dict[str, DeviceKind] = {
    "virtio-blk-mmio": "block",
    "virtio-blk-device": "block",
    "virtio-net-mmio": "net",
    "virtio-net-device": "net",
}
CONSOLE_DRIVER = "virtconsole"
STANDARD_VM_DRIVERS = re.compile(r".*-pci$|pcie-root-port$|.*-pci-.*")
STANDARD_VM_ARGUMENTS = ("bus", "host", "multifunction", "vectors", "lun")
"""Arguments that only the standard VM can honour; ``romfile`` and the like are sent by clients to both."""
AFTER_PROBE = {
    "num_queues": "num-queues",
    "queue_size": "queue-size",
    "logical_block_size": "logical_block_size",
    "physical_block_size": "physical_block_size",
}
"""Arguments, with their wire names, for what the guest's driver has read from the slot long before."""
MAC = re.compile(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")


@command("blockdev-add")
async def blockdev_add(context: Context, arguments: BlockdevAdd) -> Reply:
    cache = arguments.cache
    await context.control.inventory.add_block_node(
        BlockNode(
            name=arguments.node_name,
            filename=arguments.file.filename,
            driver="qcow2" if arguments.driver == "qcow2" else "raw",
            host_device=arguments.file.driver == "host_device",
            read_only=bool(arguments.read_only),
            direct=bool(cache and cache.direct),
            no_flush=bool(cache and cache.no_flush),
            discard=arguments.discard in ("unmap", "on"),
            detect_zeroes=arguments.detect_zeroes or "off",  # type: ignore[arg-type]  # the schema's enum
            iops_total=arguments.throttling_iops_total or 0,
        )
    )
    return Reply()


@command("blockdev-del")
async def blockdev_del(context: Context, arguments: BlockdevDel) -> Reply:
    await context.control.inventory.remove_block_node(arguments.node_name)
    return Reply()


@command("netdev_add")
async def netdev_add(context: Context, arguments: NetdevAdd) -> Reply:
    if arguments.type == "vhost-user" or arguments.chardev is not None:
        raise CommandError("netdev_add: type vhost-user: the standard VM is not built yet")
    for name in ("script", "downscript"):
        if getattr(arguments, name) not in (None, "", "no"):
            raise CommandError(f'netdev_add: {name}: no script is run; only "no" is allowed')
    await context.control.inventory.add_netdev(_netdev(context, arguments))
    return Reply()


@command("netdev_del")
async def netdev_del(context: Context, arguments: NetdevDel) -> Reply:
    await context.control.inventory.remove_netdev(arguments.id)
    return Reply()


@command("device_add")
async def device_add(context: Context, arguments: DeviceAdd) -> Reply:
    if arguments.driver == CONSOLE_DRIVER:
        if arguments.chardev is None:
            raise CommandError(f"device_add: argument 'chardev' is missing: a {CONSOLE_DRIVER} needs one")
        await context.control.inventory.plug_console(arguments.id, arguments.chardev)
        return Reply()
    kind = _kind(arguments.driver)
    _refuse_what_no_slot_can_do(arguments)
    named = arguments.drive if kind == "block" else arguments.netdev
    await context.control.inventory.plug(
        DeviceRequest(
            id=arguments.id,
            kind=kind,
            backend=named or arguments.id,
            slot=None if arguments.addr is None else _number("addr", arguments.addr),
            serial=arguments.serial or "",
            mac=None if arguments.mac is None else _mac(arguments.mac),
            iothread=arguments.iothread,
        )
    )
    return Reply()


@command("device_del")
async def device_del(context: Context, arguments: DeviceDel) -> Reply:
    await context.control.inventory.unplug(arguments.id)
    return Reply()


def _kind(driver: str) -> DeviceKind:
    if driver in DRIVERS:
        return DRIVERS[driver]
    if STANDARD_VM_DRIVERS.fullmatch(driver):
        raise CommandError(f"device_add: driver {quote(driver)}: the standard VM is not built yet")
    known = ", ".join((*DRIVERS, CONSOLE_DRIVER))
    raise CommandError(f"device_add: driver {quote(driver)}: cannot be hot-plugged; known are {known}")


def _refuse_what_no_slot_can_do(arguments: DeviceAdd) -> None:
    for name in STANDARD_VM_ARGUMENTS:
        if getattr(arguments, name) not in (None, False, "off"):
            raise CommandError(f"device_add: {name}: the standard VM is not built yet")
    for name, wire in AFTER_PROBE.items():
        if getattr(arguments, name) is not None:
            raise CommandError(
                f"device_add: {wire}: a slot's queues and sizes are fixed when the guest boots"
            )
    if arguments.disable_modern in (True, "on"):
        raise CommandError("device_add: disable-modern: only false: there is no legacy interface")
    if arguments.romfile:
        raise CommandError("device_add: romfile: only the empty string: there is no ROM")
    if arguments.mq in (True, "on"):
        raise CommandError("device_add: mq: fixed for each slot when the guest boots")


def _netdev(context: Context, arguments: NetdevAdd) -> Netdev:
    """The request, with the descriptors that it names taken; they are closed if one is missing."""
    names = [*_names(arguments.fd), *_names(arguments.fds)]
    vhost_names = [*_names(arguments.vhostfd), *_names(arguments.vhostfds)]
    taken: list[int] = []
    try:
        for name in (*names, *vhost_names):
            taken.append(context.named.take("netdev_add", name))
    except CommandError:
        for fd in taken:
            os.close(fd)
        raise
    return Netdev(
        id=arguments.id,
        type="user" if arguments.type == "user" else "tap",
        ifname=arguments.ifname,
        fds=tuple(taken[: len(names)]),
        vhost=arguments.vhost in (True, "on") or bool(vhost_names),
        vhostfds=tuple(taken[len(names) :]),
        queues=max(len(names), 1) if arguments.queues is None else _number("queues", arguments.queues),
    )


def _names(joined: str | None) -> list[str]:
    return joined.split(":") if joined else []


def _number(argument: str, value: int | str) -> int:
    """A number as a client may write it: 1, "1" or "0x1"."""
    try:
        number = value if isinstance(value, int) else int(value, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise CommandError(f"{argument}: {quote(str(value))} is no number")
    return number


def _mac(text: str) -> bytes:
    if not MAC.fullmatch(text) or int(text[:2], 16) & 1:
        raise CommandError(f"device_add: mac: {quote(text)} is no unicast MAC address like 52:54:00:12:34:56")
    return bytes.fromhex(text.replace(":", ""))


HANDLERS: tuple[Any, ...] = (blockdev_add, blockdev_del, netdev_add, netdev_del, device_add, device_del)

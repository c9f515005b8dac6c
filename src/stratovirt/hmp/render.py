"""How the result of a query becomes text: one line or more, each with its newline, as QEMU prints them.

Source: QEMU 7.2, monitor/hmp-cmds.c, block/monitor/block-hmp-cmds.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stratovirt.machine.inventory import NetworkInfo


def silence(result: Any) -> str:
    """Commands that do something say nothing when they have done it."""
    return ""


def status(result: Any) -> str:
    """Of query-status."""
    if result["running"]:
        return "VM status: running\n"
    why = "" if result["status"] == "paused" else f" ({result['status']})"
    return f"VM status: paused{why}\n"


def cpus(result: Any) -> str:
    """Of query-cpus-fast; the first is the monitor's current one."""
    lines = (f"CPU #{cpu['cpu-index']}: thread_id={cpu['thread-id']}\n" for cpu in result)
    return "".join(f"{' ' if number else '*'} {line}" for number, line in enumerate(lines))


def block(result: Any) -> str:
    """Of query-block."""
    return "".join(_drive(drive) for drive in result)


def _drive(drive: dict[str, Any]) -> str:
    inserted = drive.get("inserted")
    node = f" ({inserted['node-name']})" if inserted and inserted.get("node-name") else ""
    name = f"{drive['device'] or drive.get('qdev', '')}{node}"
    if not inserted:
        return f"{name}: [not inserted]\n" + _detail("Attached to", drive.get("qdev"))
    read_only = ", read-only" if inserted["ro"] else ""
    return (
        f"{name}: {inserted['file']} ({inserted['drv']}{read_only})\n"
        + _detail("Attached to", drive.get("qdev"))
        + _detail("Cache mode", _cache(inserted.get("cache")))
    )


def _detail(what: str, value: str | None) -> str:
    return f"    {what + ':':<17} {value}\n" if value else ""


def _cache(cache: dict[str, bool] | None) -> str | None:
    if cache is None:
        return None
    mode = "writeback" if cache["writeback"] else "writethrough"
    return mode + ", direct" * cache["direct"] + ", ignore flushes" * cache["no-flush"]


def chardev(result: Any) -> str:
    """Of query-chardev."""
    return "".join(f"{device['label']}: filename={device['filename']}\n" for device in result)


def network(result: Sequence[NetworkInfo]) -> str:
    """Of the inventory's networks: a card and, behind it, its peer; a backend without card by itself.
    The link's state is ours to add.

    Source: QEMU 7.2, net/net.c (hmp_info_network).
    """
    return "".join(map(_network, result))


def _network(each: NetworkInfo) -> str:
    peer = f"{each.id}: index=0,{each.peer}\n"
    if each.card is None:
        return peer
    model, mac = "type=nic,model=virtio-net-device", each.mac.hex(":")
    link = "up" if each.link_up else "down"
    return f"{each.card}: index=0,{model},macaddr={mac},link={link}\n \\ {peer}"


def balloon(result: Any) -> str:
    """Of query-balloon, in MiB."""
    return f"balloon: actual={result['actual'] >> 20}\n"


def version(result: Any) -> str:
    """Of query-version."""
    ours = result["StratoVirt"]
    return f"{ours['major']}.{ours['minor']}.{ours['micro']}\n"


def name(result: Any) -> str:
    """Of query-name: nothing when it has none."""
    return f"{result['name']}\n" if result.get("name") else ""


def uuid(result: Any) -> str:
    """Of query-uuid."""
    return f"{result['UUID']}\n"


def kvm(result: Any) -> str:
    """Of query-kvm."""
    state = "enabled" if result["enabled"] else "disabled"
    return f"kvm support: {state if result['present'] else 'not compiled'}\n"

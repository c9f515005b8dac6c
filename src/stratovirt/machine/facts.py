"""What a machine is, as a snapshot says it, and whether another is like it.

The law: whatever of a machine its guest has learnt, and a snapshot does not bring along, is a fact, and
compared before any state is put in. The text of a refusal names both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stratovirt import __version__
from stratovirt.devices.virtio.constants import (
    ID_BALLOON,
    ID_BLOCK,
    ID_CONSOLE,
    ID_ENTROPY,
    ID_NET,
    ID_VSOCK,
)
from stratovirt.devices.virtio.mmio import VirtioMmio
from stratovirt.errors import SnapshotError
from stratovirt.vmstate import Section

if TYPE_CHECKING:
    from stratovirt.machine.microvm import Microvm

NAME = "machine"
VERSION = 1

DEVICE_KINDS = {
    ID_NET: "network card",
    ID_BLOCK: "disk",
    ID_CONSOLE: "console",
    ID_ENTROPY: "entropy source",
    ID_BALLOON: "balloon",
    ID_VSOCK: "vsock",
}

Facts = dict[str, Any]

_KEYS = ("accelerator", "cpu", "memory", "vcpus", "topology", "boot", "devices")
_BOOT_KEYS = ("kernel", "initrd", "cmdline", "acpi")


def describe(board: Microvm) -> Section:
    """The section that says what ``board`` is."""
    request = board.plan.request
    cpu = board.accelerator.identity()
    facts = {
        "stratovirt": __version__,
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "accelerator": board.accelerator.name,
        "cpu": {"vendor": cpu.vendor, "features": list(cpu.features)},
        "memory": request.memory_size,
        "vcpus": request.cpus,
        "topology": list(request.topology),
        "boot": {
            "kernel": request.kernel,
            "initrd": request.initrd,
            "cmdline": request.cmdline,
            "acpi": board.plan.acpi,
        },
        "devices": [_device(transport) for transport in board.transports],
    }
    return Section(NAME, VERSION, facts)


def read(sections: Sequence[Section]) -> Facts:
    """The facts in a snapshot.

    :raises SnapshotError: it has none, or those of a later version.
    """
    for section in sections:
        if section.name == NAME:
            if section.version != VERSION:
                raise SnapshotError(f"section {NAME} has version {section.version}; known is {VERSION}")
            _require(section.state, _KEYS)
            _require(section.state["boot"], _BOOT_KEYS)
            return section.state
    raise SnapshotError(f"there is no section {NAME}")


def _require(state: Facts, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key not in state:
            raise SnapshotError(f"section {NAME} lacks {key!r}")


def compare(saved: Facts, board: Microvm) -> None:
    """Find out whether what was saved on a machine with these facts goes on on ``board``.

    :raises SnapshotError: it does not; the text says in what they differ.
    """
    here = describe(board).state
    try:
        differences = [*_differences(saved, here)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"section {NAME} holds what cannot be: {error!r}") from error
    if differences:
        raise SnapshotError("; ".join(differences))


def _differences(saved: Facts, here: Facts) -> Iterator[str]:
    if saved["accelerator"] != here["accelerator"]:
        yield f"saved under {saved['accelerator']}; this machine runs under {here['accelerator']}"
        return
    if saved["memory"] != here["memory"]:
        yield f"saved with {saved['memory'] >> 20} MiB of RAM; this machine has {here['memory'] >> 20}"
    if saved["vcpus"] != here["vcpus"]:
        yield f"saved with {saved['vcpus']} vCPUs; this machine has {here['vcpus']}"
        return
    if saved["topology"] != here["topology"]:
        yield f"saved with topology {_topology(saved)}; this machine has {_topology(here)}"
    yield from _cpu_differences(saved["cpu"], here["cpu"], exact=here["accelerator"] == "tcg")
    if len(saved["devices"]) != len(here["devices"]):
        yield f"saved with {_kinds(saved)}; this machine has {_kinds(here)}"
        return
    for slot, (was, now) in enumerate(zip(saved["devices"], here["devices"], strict=True)):
        yield from (f"device slot {slot}: {difference}" for difference in _device_differences(was, now))


def _topology(facts: Facts) -> str:
    return "x".join(map(str, facts["topology"]))


def _kinds(facts: Facts) -> str:
    kinds = [device["kind"] for device in facts["devices"]]
    return f"{len(kinds)} devices ({', '.join(kinds)})"


def _cpu_differences(saved: Facts, here: Facts, *, exact: bool) -> Iterator[str]:
    """KVM brings its CPUID along, which must not promise what this CPU lacks; the software CPU does not."""
    if saved["vendor"] != here["vendor"]:
        yield f"saved on a CPU of {saved['vendor']}; this one is of {here['vendor']}"
        return
    lacking = sorted({*saved["features"]} - {*here["features"]})
    if lacking:
        yield f"the CPU lacks {', '.join(lacking)}"
    added = sorted({*here["features"]} - {*saved["features"]})
    if added and exact:
        yield f"the CPU has {', '.join(added)}, which the saved one had not; see -cpu host,-NAME"


def _device(transport: VirtioMmio) -> Facts:
    device = transport.device
    return {
        "name": transport.name,
        "kind": DEVICE_KINDS.get(device.device_id, f"device of type {device.device_id}"),
        "queues": list(device.queue_sizes),
        "accepted": transport.accepted,
        "offered": transport.offered,
        "backend": device.backend_facts(),
    }


def _device_differences(saved: Facts, here: Facts) -> Iterator[str]:
    if saved["kind"] != here["kind"]:
        yield f"saved as: {saved['kind']}; this one: {here['kind']}"
        return
    if saved["queues"] != here["queues"]:
        yield f"saved with queues of {saved['queues']} entries; this {here['kind']} has {here['queues']}"
    if missing := saved["accepted"] & ~here["offered"]:
        bits = [str(bit) for bit in range(missing.bit_length()) if missing >> bit & 1]
        yield f"its driver uses feature {', '.join(bits)}, which this {here['kind']} does not offer"
    for fact, value in saved["backend"].items():
        now = here["backend"].get(fact)
        if now != value:
            yield f"saved with {fact} {value}; this {here['kind']} has {now}"

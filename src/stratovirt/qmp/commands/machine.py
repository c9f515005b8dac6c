"""What the machine is: its name, its vCPUs, its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.machine.info import Place
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import NoArguments, QueryMemGpa

ARCHITECTURE = "x86_64"
CPU_TYPE = "host-x86_64-cpu"
NO_UUID = "00000000-0000-0000-0000-000000000000"
GPA_BITS = 64
WORD = 4  # bytes that query-mem-gpa reads


@command("query-name")
async def query_name(context: Context, arguments: NoArguments) -> Reply:
    name = context.control.info.name
    return Reply({} if name is None else {"name": name})


@command("query-uuid")
async def query_uuid(context: Context, arguments: NoArguments) -> Reply:
    return Reply({"UUID": context.control.info.uuid or NO_UUID})


@command("query-kvm")
async def query_kvm(context: Context, arguments: NoArguments) -> Reply:
    enabled = context.control.info.accelerator == "kvm"
    return Reply({"enabled": enabled, "present": context.catalog.kvm_present})


@command("query-target")
async def query_target(context: Context, arguments: NoArguments) -> Reply:
    return Reply({"arch": ARCHITECTURE})


@command("query-cpus")
async def query_cpus(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {
                "CPU": vcpu.number,
                "arch": "x86",
                "current": vcpu.number == 0,
                "halted": vcpu.halted,
                "qom_path": _path(vcpu.number),
                "thread_id": vcpu.thread_id,
                "props": _properties(context.control.info.topology.place(vcpu.number)),
            }
            for vcpu in await context.control.vcpus()
        ]
    )


@command("query-cpus-fast")
async def query_cpus_fast(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {
                "cpu-index": vcpu.number,
                "qom-path": _path(vcpu.number),
                "thread-id": vcpu.thread_id,
                "props": _properties(context.control.info.topology.place(vcpu.number)),
                "target": ARCHITECTURE,
            }
            for vcpu in await context.control.vcpus()
        ]
    )


@command("query-hotpluggable-cpus")
async def query_hotpluggable_cpus(context: Context, arguments: NoArguments) -> Reply:
    info = context.control.info
    return Reply(
        [
            {
                "type": CPU_TYPE,
                "vcpus-count": 1,
                "props": _properties(info.topology.place(index)),
                **({"qom-path": _path(index)} if index < info.vcpus else {}),
            }
            for index in range(info.topology.places if info.vcpus else 0)
        ]
    )


@command("query-memory-size-summary")
async def query_memory_size_summary(context: Context, arguments: NoArguments) -> Reply:
    return Reply({"base-memory": context.control.info.memory, "plugged-memory": 0})


@command("query-mem-gpa")
async def query_mem_gpa(context: Context, arguments: QueryMemGpa) -> Reply:
    data = context.control.read_memory(_address(arguments.gpa), WORD)
    return Reply(f"{int.from_bytes(data, 'little'):X}")


def _address(text: str) -> int:
    digits = text.removeprefix("0x")
    # int() alone would also take blanks, signs and underscores.
    if not (digits.isascii() and digits.isalnum() and len(digits) <= GPA_BITS // 4):
        raise _no_address(text)
    try:
        return int(digits, 16)
    except ValueError:
        raise _no_address(text) from None


def _no_address(text: str) -> CommandError:
    return CommandError(f"query-mem-gpa: argument 'gpa' is {quote(text)}, not a hexadecimal address")


def _path(index: int) -> str:
    return f"/machine/unattached/device[{index}]"


def _properties(place: Place) -> dict[str, Any]:
    return {
        "core-id": place.core,
        "die-id": place.die,
        "socket-id": place.socket,
        "thread-id": place.thread,
    }


HANDLERS = (
    query_name,
    query_uuid,
    query_kvm,
    query_target,
    query_cpus,
    query_cpus_fast,
    query_hotpluggable_cpus,
    query_memory_size_summary,
    query_mem_gpa,
)

"""The guest's disks and what is behind them, in the words of QEMU's qapi/block-core.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratovirt.machine.inventory import BlockActivity, BlockNode
from stratovirt.qmp.handler import Context, Reply, command

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import NoArguments, QueryBlockstats, QueryNamedBlockNodes


@command("query-block")
async def query_block(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {
                "device": disk.device.id,
                "qdev": disk.device.id,
                "type": "unknown",
                "removable": True,
                "locked": False,
                "inserted": _node(disk.node, disk.writeback),
            }
            for disk in context.control.inventory.disks()
        ]
    )


@command("query-named-block-nodes")
async def query_named_block_nodes(context: Context, arguments: QueryNamedBlockNodes) -> Reply:
    inventory = context.control.inventory
    writeback = {disk.node.name: disk.writeback for disk in inventory.disks()}
    return Reply([_node(node, writeback.get(node.name, True)) for node in inventory.block_nodes()])


@command("query-blockstats")
async def query_blockstats(context: Context, arguments: QueryBlockstats) -> Reply:
    inventory = context.control.inventory
    if arguments.query_nodes:
        activity = {disk.node.name: disk.activity for disk in inventory.disks()}
        names = [node.name for node in inventory.block_nodes()]
        return Reply(
            [{"node-name": name, "stats": _stats(activity.get(name, BlockActivity()))} for name in names]
        )
    return Reply(
        [
            {"device": disk.device.id, "node-name": disk.node.name, "stats": _stats(disk.activity)}
            for disk in inventory.disks()
        ]
    )


@command("query-block-jobs")
async def query_block_jobs(context: Context, arguments: NoArguments) -> Reply:
    return Reply([])  # no command starts one


@command("query-iothreads")
async def query_iothreads(context: Context, arguments: NoArguments) -> Reply:
    threads = context.control.inventory.iothreads()
    return Reply([{"id": thread.id, "thread-id": thread.thread_id} for thread in threads])


def _node(node: BlockNode, writeback: bool) -> dict[str, Any]:
    return {
        "node-name": node.name,
        "drv": node.driver,
        "file": node.filename,
        "ro": node.read_only,
        "iops": node.iops_total,
        "cache": {"direct": node.direct, "no-flush": node.no_flush, "writeback": writeback},
    }


def _stats(activity: BlockActivity) -> dict[str, int]:
    stats = {}
    for name, count in zip(("rd", "wr", "flush", "unmap"), activity, strict=True):
        stats[f"{name}_operations"] = count.operations
        stats[f"{name}_total_time_ns"] = count.nanoseconds
        stats[f"failed_{name}_operations"] = count.failed
        stats[f"invalid_{name}_operations"] = count.invalid
        if name != "flush":
            stats[f"{name}_bytes"] = count.bytes
    return stats


HANDLERS = (query_block, query_named_block_nodes, query_blockstats, query_block_jobs, query_iothreads)

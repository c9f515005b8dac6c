"""Typed arguments of every command. Generated: python -m stratovirt.qmp.generate

NamedTuples, and annotations that are evaluated: defining one takes 0.1 ms, a dataclass with slots 0.8 ms,
and every start of a VM pays for all of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self


class Arguments(Protocol):
    """What the types below have in common."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""


class NoArguments(NamedTuple):
    """For commands that take none."""

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """The same for every such command."""
        return cls()


class Balloon(NamedTuple):
    """Arguments of balloon."""

    value: int

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            value=given["value"],
        )


class BlockdevAddFile(NamedTuple):
    """``file`` of :class:`BlockdevAdd`."""

    driver: str
    filename: str
    aio: str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            driver=given["driver"],
            filename=given["filename"],
            aio=given.get("aio"),
        )


class BlockdevAddCache(NamedTuple):
    """``cache`` of :class:`BlockdevAdd`."""

    direct: bool | None = None
    no_flush: bool | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            direct=given.get("direct"),
            no_flush=given.get("no-flush"),
        )


class BlockdevAdd(NamedTuple):
    """Arguments of blockdev-add."""

    node_name: str
    file: BlockdevAddFile
    cache: BlockdevAddCache | None = None
    read_only: bool | None = None
    driver: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    id: str | None = None
    options: str | None = None
    throttling_iops_total: int | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            node_name=given["node-name"],
            file=BlockdevAddFile.from_wire(given["file"]),
            cache=BlockdevAddCache.from_wire(given["cache"]) if "cache" in given else None,
            read_only=given.get("read-only"),
            driver=given.get("driver"),
            discard=given.get("discard"),
            detect_zeroes=given.get("detect-zeroes"),
            id=given.get("id"),
            options=given.get("options"),
            throttling_iops_total=given.get("throttling.iops-total"),
        )


class BlockdevDel(NamedTuple):
    """Arguments of blockdev-del."""

    node_name: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            node_name=given["node-name"],
        )


class ChardevAddBackendDataAddrData(NamedTuple):
    """``data`` of :class:`ChardevAddBackendDataAddr`."""

    path: str | None = None
    host: str | None = None
    port: int | str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            path=given.get("path"),
            host=given.get("host"),
            port=given.get("port"),
        )


class ChardevAddBackendDataAddr(NamedTuple):
    """``addr`` of :class:`ChardevAddBackendData`."""

    type: str
    data: ChardevAddBackendDataAddrData

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            type=given["type"],
            data=ChardevAddBackendDataAddrData.from_wire(given["data"]),
        )


class ChardevAddBackendData(NamedTuple):
    """``data`` of :class:`ChardevAddBackend`."""

    addr: ChardevAddBackendDataAddr | None = None
    server: bool | None = None
    wait: bool | None = None
    out: str | None = None
    size: int | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            addr=ChardevAddBackendDataAddr.from_wire(given["addr"]) if "addr" in given else None,
            server=given.get("server"),
            wait=given.get("wait"),
            out=given.get("out"),
            size=given.get("size"),
        )


class ChardevAddBackend(NamedTuple):
    """``backend`` of :class:`ChardevAdd`."""

    type: str
    data: ChardevAddBackendData

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            type=given["type"],
            data=ChardevAddBackendData.from_wire(given["data"]),
        )


class ChardevAdd(NamedTuple):
    """Arguments of chardev-add."""

    id: str
    backend: ChardevAddBackend

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
            backend=ChardevAddBackend.from_wire(given["backend"]),
        )


class ChardevRemove(NamedTuple):
    """Arguments of chardev-remove."""

    id: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
        )


class Closefd(NamedTuple):
    """Arguments of closefd."""

    fdname: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            fdname=given["fdname"],
        )


class DeviceListProperties(NamedTuple):
    """Arguments of device-list-properties."""

    typename: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            typename=given["typename"],
        )


class DeviceAdd(NamedTuple):
    """Arguments of device_add."""

    id: str
    driver: str
    addr: int | str | None = None
    drive: str | None = None
    netdev: str | None = None
    chardev: str | None = None
    bus: str | None = None
    mac: str | None = None
    serial: str | None = None
    host: str | None = None
    romfile: str | None = None
    share_rw: bool | str | None = None
    lun: int | str | None = None
    queue_size: int | str | None = None
    num_queues: int | str | None = None
    disable_modern: bool | str | None = None
    mq: bool | str | None = None
    vectors: int | str | None = None
    iothread: str | None = None
    multifunction: bool | str | None = None
    boot_index: int | str | None = None
    logical_block_size: int | str | None = None
    physical_block_size: int | str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
            driver=given["driver"],
            addr=given.get("addr"),
            drive=given.get("drive"),
            netdev=given.get("netdev"),
            chardev=given.get("chardev"),
            bus=given.get("bus"),
            mac=given.get("mac"),
            serial=given.get("serial"),
            host=given.get("host"),
            romfile=given.get("romfile"),
            share_rw=given.get("share-rw"),
            lun=given.get("lun"),
            queue_size=given.get("queue-size"),
            num_queues=given.get("num-queues"),
            disable_modern=given.get("disable-modern"),
            mq=given.get("mq"),
            vectors=given.get("vectors"),
            iothread=given.get("iothread"),
            multifunction=given.get("multifunction"),
            boot_index=given.get("boot_index"),
            logical_block_size=given.get("logical_block_size"),
            physical_block_size=given.get("physical_block_size"),
        )


class DeviceDel(NamedTuple):
    """Arguments of device_del."""

    id: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
        )


class Getfd(NamedTuple):
    """Arguments of getfd."""

    fdname: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            fdname=given["fdname"],
        )


class HumanMonitorCommand(NamedTuple):
    """Arguments of human-monitor-command."""

    command_line: str
    cpu_index: int | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            command_line=given["command-line"],
            cpu_index=given.get("cpu-index"),
        )


class Migrate(NamedTuple):
    """Arguments of migrate."""

    uri: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            uri=given["uri"],
        )


class NetdevAdd(NamedTuple):
    """Arguments of netdev_add."""

    id: str
    type: str | None = None
    ifname: str | None = None
    fd: str | None = None
    fds: str | None = None
    vhost: bool | str | None = None
    vhostfd: str | None = None
    vhostfds: str | None = None
    queues: int | str | None = None
    script: str | None = None
    downscript: str | None = None
    chardev: str | None = None
    macnat: bool | str | None = None
    dnssearch: str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
            type=given.get("type"),
            ifname=given.get("ifname"),
            fd=given.get("fd"),
            fds=given.get("fds"),
            vhost=given.get("vhost"),
            vhostfd=given.get("vhostfd"),
            vhostfds=given.get("vhostfds"),
            queues=given.get("queues"),
            script=given.get("script"),
            downscript=given.get("downscript"),
            chardev=given.get("chardev"),
            macnat=given.get("macnat"),
            dnssearch=given.get("dnssearch"),
        )


class NetdevDel(NamedTuple):
    """Arguments of netdev_del."""

    id: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            id=given["id"],
        )


class QmpCapabilities(NamedTuple):
    """Arguments of qmp_capabilities."""

    enable: list[str] | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            enable=given.get("enable"),
        )


class QomListTypes(NamedTuple):
    """Arguments of qom-list-types."""

    implements: str | None = None
    abstract: bool | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            implements=given.get("implements"),
            abstract=given.get("abstract"),
        )


class QueryBlockstats(NamedTuple):
    """Arguments of query-blockstats."""

    query_nodes: bool | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            query_nodes=given.get("query-nodes"),
        )


class QueryCommandLineOptions(NamedTuple):
    """Arguments of query-command-line-options."""

    option: str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            option=given.get("option"),
        )


class QueryMemGpa(NamedTuple):
    """Arguments of query-mem-gpa."""

    gpa: str

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            gpa=given["gpa"],
        )


class QueryNamedBlockNodes(NamedTuple):
    """Arguments of query-named-block-nodes."""

    flat: bool | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            flat=given.get("flat"),
        )


class RingbufRead(NamedTuple):
    """Arguments of ringbuf-read."""

    device: str
    size: int
    format: str | None = None

    @classmethod
    def from_wire(cls, given: Mapping[str, Any]) -> Self:
        """From arguments that the command's schema has accepted."""
        return cls(
            device=given["device"],
            size=given["size"],
            format=given.get("format"),
        )


BY_COMMAND: Mapping[str, type[Arguments]] = {
    "balloon": Balloon,
    "blockdev-add": BlockdevAdd,
    "blockdev-del": BlockdevDel,
    "chardev-add": ChardevAdd,
    "chardev-remove": ChardevRemove,
    "closefd": Closefd,
    "cont": NoArguments,
    "device-list-properties": DeviceListProperties,
    "device_add": DeviceAdd,
    "device_del": DeviceDel,
    "getfd": Getfd,
    "human-monitor-command": HumanMonitorCommand,
    "migrate": Migrate,
    "migrate_cancel": NoArguments,
    "netdev_add": NetdevAdd,
    "netdev_del": NetdevDel,
    "qmp_capabilities": QmpCapabilities,
    "qom-list-types": QomListTypes,
    "query-balloon": NoArguments,
    "query-block-jobs": NoArguments,
    "query-block": NoArguments,
    "query-blockstats": QueryBlockstats,
    "query-chardev": NoArguments,
    "query-command-line-options": QueryCommandLineOptions,
    "query-commands": NoArguments,
    "query-cpus-fast": NoArguments,
    "query-cpus": NoArguments,
    "query-events": NoArguments,
    "query-hotpluggable-cpus": NoArguments,
    "query-iothreads": NoArguments,
    "query-kvm": NoArguments,
    "query-machines": NoArguments,
    "query-mem-gpa": QueryMemGpa,
    "query-memory-size-summary": NoArguments,
    "query-migrate-capabilities": NoArguments,
    "query-migrate": NoArguments,
    "query-name": NoArguments,
    "query-named-block-nodes": QueryNamedBlockNodes,
    "query-qmp-schema": NoArguments,
    "query-status": NoArguments,
    "query-target": NoArguments,
    "query-uuid": NoArguments,
    "query-version": NoArguments,
    "quit": NoArguments,
    "ringbuf-read": RingbufRead,
    "stop": NoArguments,
    "system_powerdown": NoArguments,
    "system_reset": NoArguments,
}

"""Character devices: chardev-add, chardev-remove, query-chardev, ringbuf-read."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from stratovirt.errors import CommandError
from stratovirt.machine.chardevs import ChardevRequest
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import (
        ChardevAdd,
        ChardevAddBackendData,
        ChardevRemove,
        NoArguments,
        RingbufRead,
    )

TAKES: dict[str, tuple[str, ...]] = {
    "socket": ("addr", "server", "wait"),
    "pty": (),
    "file": ("out",),
    "null": (),
    "ringbuf": ("size",),
}
"""Which of the arguments in ``data`` each type takes."""
NEEDS = {"socket": "addr", "file": "out"}
ADDRESS = {"unix": ("path",), "inet": ("host", "port")}
MAX_PORT = 65_535


@command("chardev-add")
async def chardev_add(context: Context, arguments: ChardevAdd) -> Reply:
    kind, data = arguments.backend.type, arguments.backend.data
    given = {name for name, value in data._asdict().items() if value is not None}
    _check("backend.data", f"type {kind}", given, TAKES[kind], [NEEDS[kind]] if kind in NEEDS else [])
    added = await context.control.chardevs.add(_request(arguments.id, kind, data))
    path = added.filename.removeprefix("pty:")
    return Reply({"pty": path} if path != added.filename else {})


@command("chardev-remove")
async def chardev_remove(context: Context, arguments: ChardevRemove) -> Reply:
    await context.control.chardevs.remove(arguments.id)
    return Reply()


@command("query-chardev")
async def query_chardev(context: Context, arguments: NoArguments) -> Reply:
    return Reply(
        [
            {"label": chardev.label, "filename": chardev.filename, "frontend-open": chardev.in_use}
            for chardev in context.control.chardevs.list()
        ]
    )


@command("ringbuf-read")
async def ringbuf_read(context: Context, arguments: RingbufRead) -> Reply:
    data = context.control.chardevs.read(arguments.device, arguments.size)
    if arguments.format == "base64":
        return Reply(base64.b64encode(data).decode())
    return Reply(data.decode(errors="replace"))


def _request(id: str, kind: str, data: ChardevAddBackendData) -> ChardevRequest:
    if kind == "socket":
        return _socket(id, data)
    if kind == "file":
        return ChardevRequest(id, "file", path=data.out or "")
    if kind == "ringbuf":
        return ChardevRequest(id, "ringbuf", size=data.size)
    return ChardevRequest(id, "pty" if kind == "pty" else "null")


def _socket(id: str, data: ChardevAddBackendData) -> ChardevRequest:
    """A server unless it is told not to be, as in QEMU."""
    if data.wait:
        raise CommandError("chardev-add: backend.data.wait: only false: a running machine waits for nobody")
    assert data.addr is not None
    kind, address = data.addr.type, data.addr.data
    given = {name for name, value in address._asdict().items() if value is not None}
    _check("backend.data.addr.data", f"type {kind}", given, ADDRESS[kind], ADDRESS[kind])
    server = data.server is not False
    if kind == "unix":
        return ChardevRequest(id, "unix", path=address.path or "", server=server)
    return ChardevRequest(id, "inet", host=address.host or "", port=_port(address.port), server=server)


def _check(where: str, what: str, given: set[str], takes: tuple[str, ...], needs: Any) -> None:
    for name in needs:
        if name not in given:
            raise CommandError(f"chardev-add: argument '{where}.{name}' is missing: {what} needs it")
    for name in sorted(given - set(takes)):
        raise CommandError(f"chardev-add: argument '{where}.{name}' is not for {what}")


def _port(value: int | str | None) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_PORT):
        raise CommandError(
            f"chardev-add: argument 'backend.data.addr.data.port' is {quote(text)}, not 0 to {MAX_PORT}"
        )
    return int(text)


HANDLERS = (chardev_add, chardev_remove, query_chardev, ringbuf_read)

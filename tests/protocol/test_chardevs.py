"""chardev-add and its kin, from the wire to what the machine is asked."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stratovirt.machine.chardevs import ChardevRequest
from tests.protocol.fakes import supervised


async def answer(command: str, **arguments: Any) -> tuple[Any, list[object]]:
    """The reply's ``return``, or its error's desc; and what the machine was asked."""
    async with supervised() as here:
        reply = await (await here.client()).execute(command, arguments)
        return reply.get("return", reply.get("error", {}).get("desc")), here.control.chardevs.asked


def unix(**data: Any) -> dict[str, Any]:
    return {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/s"}}, **data}}


def inet(**data: Any) -> dict[str, Any]:
    return {"type": "socket", "data": {"addr": {"type": "inet", "data": data}}}


@pytest.mark.parametrize(
    ("backend", "request_"),
    [
        (unix(server=False), ChardevRequest("c", "unix", path="/s")),
        (unix(), ChardevRequest("c", "unix", path="/s", server=True)),
        (unix(server=True, wait=False), ChardevRequest("c", "unix", path="/s", server=True)),
        (inet(host="::1", port="77"), ChardevRequest("c", "inet", host="::1", port=77, server=True)),
        (inet(host="127.0.0.1", port=0), ChardevRequest("c", "inet", host="127.0.0.1", server=True)),
        ({"type": "pty", "data": {}}, ChardevRequest("c", "pty")),
        ({"type": "null", "data": {}}, ChardevRequest("c", "null")),
        ({"type": "file", "data": {"out": "log"}}, ChardevRequest("c", "file", path="log")),
        ({"type": "ringbuf", "data": {}}, ChardevRequest("c", "ringbuf")),
        ({"type": "ringbuf", "data": {"size": 64}}, ChardevRequest("c", "ringbuf", size=64)),
    ],
)
async def test_each_backend_reaches_the_machine(backend: dict[str, Any], request_: ChardevRequest) -> None:
    result, asked = await answer("chardev-add", id="c", backend=backend)
    assert asked == [request_]
    assert result == ({"pty": "/dev/pts/9"} if request_.kind == "pty" else {})


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ({"type": "socket", "data": {}}, "argument 'backend.data.addr' is missing: type socket needs it"),
        ({"type": "file", "data": {}}, "argument 'backend.data.out' is missing: type file needs it"),
        ({"type": "null", "data": {"size": 1}}, "argument 'backend.data.size' is not for type null"),
        (inet(port=1), "argument 'backend.data.addr.data.host' is missing: type inet needs it"),
        (inet(host="::1", port=70000), "argument 'backend.data.addr.data.port' is '70000', not 0 to 65535"),
        (inet(host="::1", port="x"), "argument 'backend.data.addr.data.port' is 'x', not 0 to 65535"),
        (inet(host="::1", port=1, path="/s"), "'backend.data.addr.data.path' is not for type inet"),
        (unix(wait=True), "backend.data.wait: only false"),
        (unix(size=1), "argument 'backend.data.size' is not for type socket"),
    ],
)
async def test_a_backend_that_is_none_is_refused_by_name(backend: dict[str, Any], problem: str) -> None:
    desc, asked = await answer("chardev-add", id="c", backend=backend)
    assert problem in desc
    assert asked == []


async def test_removing_names_the_device() -> None:
    assert await answer("chardev-remove", id="c") == ({}, ["c"])


async def test_chardevs_are_listed_in_qemus_words() -> None:
    assert (await answer("query-chardev"))[0] == [
        {"label": "serial0", "filename": "stdio", "frontend-open": True},
        {"label": "spare", "filename": "null", "frontend-open": False},
    ]


async def test_a_ring_buffers_bytes_are_text_or_base64() -> None:
    assert (await answer("ringbuf-read", device="text", size=5))[0] == "login"
    assert (await answer("ringbuf-read", device="binary", size=5))[0] == "\ufffd"
    as_base64 = (await answer("ringbuf-read", device="binary", size=5, format="base64"))[0]
    assert base64.b64decode(as_base64) == b"\xff"
